package archive

import (
	"context"
	"slices"

	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// choice says which events of a span are wanted. Empty fields choose all.
type choice struct {
	subject, correlation string
	types                []string
}

func (c choice) takes(e stored) bool {
	return (c.subject == "" || e.Subject == c.subject) &&
		(c.correlation == "" || e.CorrelationID == c.correlation) &&
		(len(c.types) == 0 || slices.Contains(c.types, e.Type))
}

// index is the one field that narrows a query down the most.
func (c choice) index() (store.Filter, bool) {
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

// scanned bounds how many events one call looks at to find those that are wanted.
const scanned = 4000

// portion is what was found, and the span that is left; nothing is left when it is empty.
type portion struct {
	events []stored
	rest   span
}

func (s span) empty() bool { return s.first > s.last }

// read finds at most limit events of a span, from its beginning or, descending, from its end.
func (a *archive) read(ctx context.Context, tx *function.Tx, c choice, s span, desc bool, limit int) (portion, error) {
	p := portion{rest: s}
	for looked := 0; looked < scanned && len(p.events) < limit && !p.rest.empty(); {
		size := min(max(limit, 100), store.MaxLimit, scanned-looked)
		page, left, err := a.page(ctx, tx, c, p.rest, desc, size)
		if err != nil {
			return p, err
		}
		p.rest = left
		looked += size
		for _, e := range page {
			if !c.takes(e) {
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

// without is what is left of the span after the event at the position.
func (s span) without(position int64, desc bool) span {
	if desc {
		return span{s.first, position - 1}
	}
	return span{position + 1, s.last}
}

// page reads the next events of the span that the index finds, wanted or not, and what is left of it.
func (a *archive) page(ctx context.Context, tx *function.Tx, c choice, s span, desc bool, size int) ([]stored, span, error) {
	filter, indexed := c.index()
	if !indexed {
		return a.run(ctx, tx, s, desc, size)
	}
	found, err := a.events.Query(ctx, tx, store.Find{
		Where: []store.Filter{filter,
			{Field: "position", Op: store.GreaterOrEqual, Value: s.first}, {Field: "position", Op: store.LessOrEqual, Value: s.last}},
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

// run reads a run of neighbours. Positions have no gaps, so their keys are known without an index.
func (a *archive) run(ctx context.Context, tx *function.Tx, s span, desc bool, size int) ([]stored, span, error) {
	if desc {
		return a.runBack(ctx, tx, s, size)
	}
	size = int(min(int64(size), s.last-s.first+1))
	found, err := a.events.Query(ctx, tx, store.Find{Limit: size, Cursor: store.EncodeCursor(store.Position{ID: key(s.first - 1)})})
	if err != nil {
		return nil, s, err
	}
	page := make([]stored, len(found.Items))
	for i, item := range found.Items {
		page[i] = item.Value
	}
	return page, span{s.first + int64(size), s.last}, nil
}

func (a *archive) runBack(ctx context.Context, tx *function.Tx, s span, size int) ([]stored, span, error) {
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
