package archive

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// criteria selects events of a span. An empty field selects all.
type criteria struct {
	subject, correlation string
	types                []string
	text                 *textFilter
	epochs               *epochs
	floor                string // positions that are times are not before it
}

// epochs is a range of epochs: after one and up to another.
type epochs struct{ after, last int64 }

// match reports whether the event is selected, apart from its text.
func (c criteria) match(e stored) bool {
	return (c.subject == "" || e.Subject == c.subject) &&
		(c.correlation == "" || e.CorrelationID == c.correlation) &&
		(len(c.types) == 0 || slices.Contains(c.types, e.Type)) &&
		(c.epochs == nil || e.isCounted() || e.Epoch > c.epochs.after && e.Epoch <= c.epochs.last)
}

// size returns about how many bytes the event has, whether or not its parts are read.
func (e stored) size() int { return max(len(e.Event), e.Parts*partSize) }

func (e stored) isCounted() bool { return e.Position < firstPosition }

// index returns a filter on the most selective field that has an index, if a criterion has one.
func (c criteria) index() []store.Filter {
	switch {
	case c.correlation != "":
		return []store.Filter{{Field: "correlation_id", Op: store.Equal, Value: c.correlation}}
	case c.subject != "":
		return []store.Filter{{Field: "subject", Op: store.Equal, Value: c.subject}}
	case len(c.types) == 1:
		return []store.Filter{{Field: "type", Op: store.Equal, Value: c.types[0]}}
	}
	return nil
}

// The limits of one call that reads. A query of the store is limited in documents, and these may be small or large: the
// first query is for a few, and the next ones for as many as have about queryBytes.
const (
	maxScanned = 4000 // events that one call reads to find those selected
	firstQuery = 32
	queryBytes = 1 << 20
)

// limits is how much one call returns at most. It returns at least one event if there is one.
type limits struct{ events, bytes int }

// portion is a part of the selected events, and the rest of the span, which is empty after the last part.
type portion struct {
	events []stored
	bytes  int
	rest   span
}

// read returns selected events of a span, from its beginning or, descending, from its end.
func (a *archive) read(
	ctx context.Context, tx *function.Tx, c criteria, s span, desc bool, l limits,
) (portion, error) {
	p := portion{rest: s}
	size, most, searched := min(firstQuery, max(l.events, 1)), maxScanned, 0
	if c.text != nil {
		size, most = firstQuery, maxTextEvents
	}
	for scanned := 0; scanned < most && !p.rest.empty(); {
		page, left, err := a.page(ctx, tx, c, p.rest, desc, min(size, most-scanned))
		if err != nil {
			return p, err
		}
		bytes := 0
		for _, e := range page {
			bytes += e.size()
			if !c.match(e) {
				continue
			}
			if n := len(p.events); n == l.events || n > 0 && p.bytes+e.size() > l.bytes {
				p.rest = s.without(p.events[n-1].Position, desc)
				return p, nil
			}
			// Only events that match are joined: the commit checks that each part that was read is unchanged.
			if err := a.join(ctx, tx, &e); err != nil {
				return p, err
			}
			if searched += e.size(); c.text == nil || c.text.match(e) {
				p.bytes += e.size()
				p.events = append(p.events, e)
			}
			if c.text != nil && searched >= maxTextBytes {
				p.rest = s.without(e.Position, desc)
				return p, nil
			}
		}
		p.rest = left
		scanned += len(page)
		size = nextSize(size, len(page), bytes)
	}
	return p, nil
}

// nextSize returns the limit of the next query after one that returned n events.
func nextSize(size, n, bytes int) int {
	if n == 0 {
		return size
	}
	return min(max(queryBytes*n/max(bytes, 1), 1), 4*size, store.MaxLimit)
}

// page returns the next events of the span by the index, selected or not and without their parts, and the rest of the
// span. It returns none only where none is left among the events that older versions have counted, or among the others.
func (a *archive) page(
	ctx context.Context, tx store.Transactor, c criteria, s span, desc bool, size int,
) ([]stored, span, error) {
	old := span{s.first, min(s.end, firstPosition)}
	log := span{max(s.first, firstPosition, c.floor), s.end}
	if !old.empty() && (!desc || log.empty()) {
		page, rest, err := a.countedPage(ctx, tx, c, old, desc, size)
		if rest.empty() && !desc {
			rest = log
		} else if !desc {
			rest.end = s.end
		}
		return page, rest, err
	}
	found, err := a.log.Query(ctx, tx, store.Find{
		Where: append(c.index(), store.Filter{Field: "position", Op: store.GreaterOrEqual, Value: log.first},
			store.Filter{Field: "position", Op: store.Less, Value: log.end}),
		Order: []store.Order{{Field: "position", Desc: desc}}, Limit: size,
	})
	if err != nil {
		return nil, s, err
	}
	page := make([]stored, len(found.Items))
	for i, item := range found.Items {
		page[i] = item.Value
	}
	switch {
	case found.Next != "":
		return page, s.without(page[len(page)-1].Position, desc), nil
	case desc:
		return page, old, nil
	}
	return page, span{s.end, s.end}, nil
}

// decode returns the event of a document.
func decode(d store.Document) (stored, error) {
	var e stored
	if err := json.Unmarshal(d.Data, &e); err != nil {
		return e, fault.Wrap(err, fault.Internal, "decode the event %s", d.ID)
	}
	return e, nil
}
