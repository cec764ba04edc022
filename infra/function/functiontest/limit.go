package functiontest

import (
	"context"
	"fmt"
	"slices"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// CommitLimit has the store refuse a commit of more than so many actions with fault.TooLarge, counted as
// infra/store/dynamodb does, whose limit is 100: one for each document that is written, for each row of an index that
// the write adds or removes, for the mark of a deletion, and for each document that was only read. The store is the one
// that the options before it have chosen.
func CommitLimit(actions int) Option {
	return func(h *Harness) {
		open := h.Store
		h.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, schema)
			if err != nil {
				return nil, err
			}
			return limited{db, schema, actions}, nil
		}
	}
}

type limited struct {
	store.Driver
	schema  store.Schema
	actions int
}

// RunTwice reports whether the store below has units of work run twice.
func (l limited) RunTwice() bool {
	r, ok := l.Driver.(interface{ RunTwice() bool })
	return ok && r.RunTwice()
}

// Floor implements store.Floors.
func (l limited) Floor(collection string) int64 {
	f, ok := l.Driver.(store.Floors)
	if !ok {
		return 0
	}
	return f.Floor(collection)
}

func (l limited) Commit(ctx context.Context, b store.Batch) error {
	n, err := l.count(ctx, b)
	if err != nil {
		return err
	}
	if n > l.actions {
		return fault.New(fault.TooLarge, "a commit of %d documents has %d actions; this store takes at most %d",
			len(b.Mutations), n, l.actions)
	}
	return l.Driver.Commit(ctx, b)
}

func (l limited) count(ctx context.Context, b store.Batch) (n int, err error) {
	if len(b.Mutations) == 0 {
		return 0, nil
	}
	keys := make([]store.Key, len(b.Mutations))
	for i, m := range b.Mutations {
		keys[i] = m.Key
	}
	before, err := l.Get(ctx, keys...)
	if err != nil {
		return 0, err
	}
	for i, m := range b.Mutations {
		spec, _ := l.schema.Spec(m.Collection)
		n += 1 + changedRows(spec, before[i], store.Document{Key: m.Key, Version: m.Version, Data: m.Data})
	}
	for _, p := range b.Preconditions {
		if !slices.Contains(keys, p.Key) {
			n++
		}
	}
	return n, nil
}

// changedRows returns how many rows of indexes a write adds and removes, and 1 more for the mark of a deletion.
func changedRows(spec store.Spec, before, after store.Document) (n int) {
	old, current := rowsOf(spec, before), rowsOf(spec, after)
	for _, row := range old {
		if !slices.Contains(current, row) {
			n++
		}
	}
	for _, row := range current {
		if !slices.Contains(old, row) || spec.SingleUse && spec.Expiry != nil { // the time of its end is in each row
			n++
		}
	}
	if len(after.Data) == 0 && before.Version > 0 && !spec.SingleUse {
		n++
	}
	return n
}

// rowsOf returns what tells the rows of a document apart. Each beginning of an index has a row.
func rowsOf(spec store.Spec, d store.Document) (all []string) {
	if len(d.Data) == 0 {
		return nil
	}
	for _, index := range spec.Indexes {
		for n := range index.Fields {
			order := make([]store.Order, n+1)
			for i := range order {
				order[i].Field = index.Fields[i]
			}
			row := fmt.Sprint(index.Fields[:n+1], store.PositionOf(d, order).Values)
			if !slices.Contains(all, row) {
				all = append(all, row)
			}
		}
	}
	return all
}
