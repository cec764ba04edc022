package store_test

import (
	"context"
	"testing"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// Without marks of deleted documents, a unit that has read one document does not take a later one of its id for it.
func TestSingleUseAgain(t *testing.T) {
	type run struct{ Run string }
	runs := store.NewCollection[run]("runs", store.SingleUse)
	db, err := memory.Opener()(t.Context(), "f", store.Schema{runs.Spec()})
	if err != nil {
		t.Fatal(err)
	}
	update := func(do func(ctx context.Context, tx *store.Tx) error) {
		t.Helper()
		if err := store.Update(t.Context(), db, do); err != nil {
			t.Fatal(err)
		}
	}
	update(func(ctx context.Context, tx *store.Tx) error { return runs.Create(ctx, tx, "a", run{"1"}) })
	old := store.Begin(db)
	if got, err := runs.Get(t.Context(), old, "a"); err != nil || got.Run != "1" {
		t.Fatalf("got %v, %v", got, err)
	}
	for _, again := range []string{"2", "3"} {
		update(func(ctx context.Context, tx *store.Tx) error { return runs.Delete(ctx, tx, "a") })
		update(func(ctx context.Context, tx *store.Tx) error { return runs.Put(ctx, tx, "a", run{again}) })
	}
	if err := runs.Delete(t.Context(), old, "a"); err != nil {
		t.Fatal(err)
	}
	if err := old.Commit(t.Context()); !fault.Is(err, fault.Conflict) {
		t.Errorf("a unit that has read the first run deletes the third: %v", err)
	}
}
