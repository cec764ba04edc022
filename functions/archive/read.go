package archive

import (
	"context"
	"slices"

	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// criteria selects events of a span. An empty field selects all.
type criteria struct {
	subject, correlation string
	types                []string
}

// match reports whether the event is selected.
func (c criteria) match(e stored) bool {
	return (c.subject == "" || e.Subject == c.subject) &&
		(c.correlation == "" || e.CorrelationID == c.correlation) &&
		(len(c.types) == 0 || slices.Contains(c.types, e.Type))
}

// index returns a filter on the most selective field that has an index, if a criterion has one.
func (c criteria) index() (store.Filter, bool) {
	switch {
	case c.correlation != "":
		return store.Filter{Field: "correlation_id", Op: store.Equal, Value: c.correlation}, true
	case c.subject != "":
		return store.Filter{Field: "subject", Op: store.Equal, Value: c.subject}, true
	case len(c.types) == 1:
		return store.Filter{Field: "type", Op: store.Equal, Value: c.types[0]}, true
	}
	return store.Filter{}, false
}

// maxScanned is the most events that one call reads to find those selected.
const maxScanned = 4000

// portion is a part of the selected events, and the rest of the span, which is empty after the last part.
type portion struct {
	events []stored
	rest   span
}

func (s span) empty() bool { return s.first > s.last }

// read returns at most limit selected events of a span, from its beginning or, descending, from its end.
func (a *archive) read(
	ctx context.Context, tx *function.Tx, c criteria, s span, desc bool, limit int,
) (portion, error) {
	p := portion{rest: s}
	for scanned := 0; scanned < maxScanned && len(p.events) < limit && !p.rest.empty(); {
		size := min(max(limit, 100), store.MaxLimit, maxScanned-scanned)
		page, left, err := a.page(ctx, tx, c, p.rest, desc, size)
		if err != nil {
			return p, err
		}
		p.rest = left
		scanned += size
		for _, e := range page {
			if !c.match(e) {
				continue
			}
			if len(p.events) == limit {
				p.rest = s.without(p.events[limit-1].Position, desc)
				return p, nil
			}
			p.events = append(p.events, e)
		}
	}
	return p, nil
}

// without returns the rest of the span after the event at the position.
func (s span) without(position int64, desc bool) span {
	if desc {
		return span{s.first, position - 1}
	}
	return span{position + 1, s.last}
}

// page returns the next events of the span by the index, selected or not, and the rest of the span.
func (a *archive) page(
	ctx context.Context, tx *function.Tx, c criteria, s span, desc bool, size int,
) ([]stored, span, error) {
	filter, indexed := c.index()
	if !indexed {
		return a.consecutive(ctx, tx, s, desc, size)
	}
	found, err := a.events.Query(ctx, tx, store.Find{
		Where: []store.Filter{filter,
			{
				Field: "position", Op: store.GreaterOrEqual, Value: s.first,
			}, {Field: "position", Op: store.LessOrEqual, Value: s.last}},
		Order: []store.Order{{Field: "position", Desc: desc}},
		Limit: size,
	})
	if err != nil {
		return nil, s, err
	}
	page := make([]stored, len(found.Items))
	for i, item := range found.Items {
		page[i] = item.Value
	}
	if found.Next == "" {
		return page, span{1, 0}, nil
	}
	return page, s.without(page[len(page)-1].Position, desc), nil
}

// consecutive returns the next events of the span, all of them. Positions have no gaps, so it needs no index.
func (a *archive) consecutive(
	ctx context.Context, tx *function.Tx, s span, desc bool, size int,
) ([]stored, span, error) {
	if desc {
		return a.consecutiveBack(ctx, tx, s, size)
	}
	size = int(min(int64(size), s.last-s.first+1))
	found, err := a.events.Query(ctx, tx, store.Find{
		Limit: size, Cursor: store.EncodeCursor(store.Position{ID: key(s.first - 1)}),
	})
	if err != nil {
		return nil, s, err
	}
	page := make([]stored, len(found.Items))
	for i, item := range found.Items {
		page[i] = item.Value
	}
	return page, span{s.first + int64(size), s.last}, nil
}

func (a *archive) consecutiveBack(ctx context.Context, tx *function.Tx, s span, size int) ([]stored, span, error) {
	first := max(s.first, s.last-int64(size)+1)
	var ids []string
	for n := s.last; n >= first; n-- {
		ids = append(ids, key(n))
	}
	found, err := a.events.GetMany(ctx, tx, ids...)
	if err != nil {
		return nil, s, err
	}
	page := make([]stored, 0, len(ids))
	for _, id := range ids {
		if e, ok := found[id]; ok {
			page = append(page, e)
		}
	}
	return page, span{s.first, first - 1}, nil
}
