package store_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// refusing is a store that takes at most a number of documents in one commit.
type refusing struct {
	store.Driver
	most int
}

func (r refusing) Commit(ctx context.Context, b store.Batch) error {
	if len(b.Mutations) > r.most {
		return fault.New(fault.TooLarge, "%d documents", len(b.Mutations))
	}
	return r.Driver.Commit(ctx, b)
}

// A unit that has asked for a portion does half as much each time that the database refuses its commit as too large.
// One that did not ask, or is down to 1, fails.
func TestPortion(t *testing.T) {
	for name, c := range map[string]struct {
		most, want int
		asks       bool
	}{
		"takes all": {500, 100, true}, "takes a third": {33, 25, true}, "takes one": {1, 1, true},
		"takes none": {0, 0, true}, "was not asked": {33, 0, false},
	} {
		db := refusing{memory.New(store.Schema{{Name: "docs"}}), c.most}
		err := store.Update(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
			n := 100
			if c.asks {
				n = tx.Nest().Portion(n)
			}
			for i := range n {
				k := store.Key{Collection: "docs", ID: fmt.Sprint(i)}
				if err := tx.Create(ctx, k, []byte(`{}`)); err != nil {
					return err
				}
			}
			return nil
		})
		docs, _, _ := db.Query(t.Context(), store.Query{Collection: "docs", Limit: 1000})
		if len(docs) != c.want || (err == nil) != (c.want > 0) || err != nil && !fault.Is(err, fault.TooLarge) {
			t.Errorf("a store that %s: got %d documents, %v, want %d", name, len(docs), err, c.want)
		}
	}
}

// A shared value is made once per attempt, also when the nested transaction that made it is dropped, and again in the
// next attempt.
func TestShared(t *testing.T) {
	db := memory.New(store.Schema{{Name: "docs"}})
	made, attempts := 0, 0
	err := store.Update(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
		attempts++
		for range 3 {
			n, err := store.Shared(tx.Nest(), "key", func() (int, error) { made++; return made, nil })
			if n != attempts || err != nil {
				t.Errorf("attempt %d: got %d, %v", attempts, n, err)
			}
		}
		if _, err := store.Shared(tx, "other", func() (int, error) { return 0, context.Canceled }); err == nil {
			t.Error("the error of make is lost")
		}
		k := store.Key{Collection: "docs", ID: "a"}
		if attempts == 1 { // another unit comes first
			other := store.Batch{Mutations: []store.Mutation{{Key: k, Version: 1, Data: []byte(`{}`)}}}
			if err := db.Commit(ctx, other); err != nil {
				return err
			}
		}
		if attempts == 2 {
			return nil
		}
		return tx.Create(ctx, k, []byte(`{}`))
	})
	if err != nil || made != 2 {
		t.Errorf("made %d times in %d attempts, %v", made, attempts, err)
	}
}
