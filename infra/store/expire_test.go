package store_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

type expiring struct {
	Until time.Time `json:"until,omitzero"`
}

type stamped struct {
	At int64 `json:"at,omitempty"`
}

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// Documents are removed when their time has passed and not before; those without a time stay. The fraction of a second
// costs a second at most.
func TestExpire(t *testing.T) {
	texts := store.NewCollection[expiring]("texts", store.Expire("until"))
	numbers := store.NewCollection[stamped]("numbers", store.Retain("at", time.Hour))
	db, err := memory.Opener()(t.Context(), "x", store.Schema{texts.Spec(), numbers.Spec()})
	if err != nil {
		t.Fatal(err)
	}
	for _, after := range []time.Duration{0, -1, -2e9, -1e9, 0.5e9, 2e9, 1500 * time.Millisecond} {
		err := store.Update(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
			id := fmt.Sprint(after)
			if err := texts.Put(ctx, tx, id, expiring{now.Add(after)}); err != nil {
				return err
			}
			return numbers.Put(ctx, tx, id, stamped{now.Add(-time.Hour + after).Unix()})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	err = store.Update(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
		if err := texts.Put(ctx, tx, "none", expiring{}); err != nil {
			return err
		}
		return numbers.Put(ctx, tx, "none", stamped{})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		spec store.Spec
		left []string
	}{
		{texts.Spec(), []string{"-1s", "0s", "1.5s", "2s", "500ms", "none"}},
		{numbers.Spec(), []string{"1.5s", "2s", "none"}},
	} {
		err := store.Update(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
			_, more, err := tx.Prune(ctx, c.spec, now, 100)
			if more {
				t.Errorf("%s: more are left", c.spec.Name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		docs, _, err := db.Query(t.Context(), store.Query{Collection: c.spec.Name, Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, d := range docs {
			left = append(left, d.ID)
		}
		if !slices.Equal(left, c.left) {
			t.Errorf("%s: got %v, want %v", c.spec.Name, left, c.left)
		}
	}
}

// A document whose time another unit has moved is not removed.
func TestExpiryMoves(t *testing.T) {
	texts := store.NewCollection[expiring]("texts", store.Expire("until"))
	db, err := memory.Opener()(t.Context(), "x", store.Schema{texts.Spec()})
	if err != nil {
		t.Fatal(err)
	}
	put := func(until time.Time) {
		err := store.Update(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
			return texts.Put(ctx, tx, "session", expiring{until})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	put(now.Add(-time.Minute))
	tx := store.Begin(db)
	if n, _, err := tx.Prune(t.Context(), texts.Spec(), now, 10); n != 1 || err != nil {
		t.Fatalf("got %d, %v", n, err)
	}
	put(now.Add(time.Hour))
	if err := tx.Commit(t.Context()); !fault.Is(err, fault.Conflict) {
		t.Errorf("got %v, want a conflict", err)
	}
}

// A collection cannot expire by what is no time.
func TestExpiryIsATime(t *testing.T) {
	for name, declare := range map[string]func(){
		"a list":           func() { store.NewCollection[struct{ Names []string }]("x", store.Expire("Names")) },
		"a missing field":  func() { store.NewCollection[expiring]("x", store.Expire("expires")) },
		"a negative while": func() { store.Retain("at", -1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s was taken", name)
				}
			}()
			declare()
		}()
	}
}

// Documents whose field is no time stay, and do not hold up those after them in the order of the field.
func TestExpiryPassesOverWhatIsNoTime(t *testing.T) {
	texts := store.NewCollection[struct {
		Until string `json:"until"`
	}]("texts", store.Expire("until"))
	db, err := memory.Opener()(t.Context(), "x", store.Schema{texts.Spec()})
	if err != nil {
		t.Fatal(err)
	}
	var all []store.Mutation
	add := func(id, until string) {
		all = append(all, store.Mutation{
			Key: texts.Key(id), Version: 1, Data: []byte(`{"until":"` + until + `"}`),
		})
	}
	for n := range 30 {
		add(fmt.Sprint("never-", n), fmt.Sprintf("1 day, %d", n))
		add(fmt.Sprint("east-", n), now.Add(-time.Hour).Format("2006-01-02T15:04:05")+"-02:00") // in an hour, in UTC
		add(fmt.Sprint("over-", n), now.Add(-time.Minute).Format(time.RFC3339))
	}
	if err := db.Commit(t.Context(), store.Batch{Mutations: all}); err != nil {
		t.Fatal(err)
	}
	removed, more := 0, true
	for range 5 {
		err := store.Update(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
			n, further, err := tx.Prune(ctx, texts.Spec(), now, 10)
			removed, more = removed+n, further
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if removed != 30 || more {
		t.Errorf("%d documents were removed, more: %v; want 30 and no more", removed, more)
	}
}
