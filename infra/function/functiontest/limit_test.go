package functiontest_test

import (
	"context"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

// The actions of a commit are its documents with the rows of their indexes, the marks of deletions, and what was only
// read. One more than the limit is refused with 413, and nothing of it is stored.
func TestCommitLimit(t *testing.T) {
	type note struct {
		A int       `json:"a"`
		B int       `json:"b"`
		C string    `json:"c,omitempty"`
		E time.Time `json:"e"`
	}
	work := func(context.Context, *function.Tx, *store.Collection[note], *store.Collection[note]) error {
		return nil
	}
	create := func(ctx context.Context, tx *function.Tx, notes, once *store.Collection[note]) error {
		if err := notes.Create(ctx, tx, "n", note{A: 1, B: 2}); err != nil {
			return err
		}
		return once.Create(ctx, tx, "o", note{E: tx.Now().Add(time.Hour)})
	}
	for name, c := range map[string]struct {
		work    func(context.Context, *function.Tx, *store.Collection[note], *store.Collection[note]) error
		actions int
	}{
		"two documents with two rows and one": {create, 2 + 2 + 1},
		"a change without one of an index": {func(
			ctx context.Context, tx *function.Tx, notes, _ *store.Collection[note],
		) error {
			return notes.Put(ctx, tx, "n", note{A: 1, B: 2, C: "x"})
		}, 1},
		"a change of the second field": {func(
			ctx context.Context, tx *function.Tx, notes, _ *store.Collection[note],
		) error {
			return notes.Put(ctx, tx, "n", note{A: 1, B: 3})
		}, 1 + 2},
		"a deletion with its mark": {func(ctx context.Context, tx *function.Tx, notes, _ *store.Collection[note]) error {
			return notes.Delete(ctx, tx, "n")
		}, 1 + 2 + 1},
		"a deletion without a mark": {func(ctx context.Context, tx *function.Tx, _, once *store.Collection[note]) error {
			return once.Delete(ctx, tx, "o")
		}, 1 + 1},
		"what is only read": {func(ctx context.Context, tx *function.Tx, notes, once *store.Collection[note]) error {
			if _, err := notes.GetMany(ctx, tx, "x", "y"); err != nil {
				return err
			}
			return once.Delete(ctx, tx, "o")
		}, 1 + 1 + 2},
	} {
		for _, short := range []int{1, 0} {
			limit := c.actions - short
			var notes, once *store.Collection[note]
			h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
				f := function.New("notes", env)
				notes = function.Collection[note](f, "notes", store.On("a", "b"))
				once = function.Collection[note](f, "once", store.SingleUse, store.Expire("e"))
				function.Serve(f, function.Operation{
					Method: "POST", Path: "/api/work", Access: function.Public, Summary: "Work", Status: 204,
				}, func(ctx context.Context, tx *function.Tx, _ *struct{}) (*struct{}, error) {
					return nil, work(ctx, tx, notes, once)
				})
				return f, nil
			})
			if name != "two documents with two rows and one" {
				work = create
				h.Call("POST", "/api/work", functiontest.Nobody, nil).Expect(204)
			}
			work = c.work
			functiontest.Limit(h, limit)
			want := 204
			if short > 0 {
				want = 413
			}
			if got := h.Call("POST", "/api/work", functiontest.Nobody, nil); got.Status != want {
				t.Errorf("%s with a limit of %d: got %d %s", name, limit, got.Status, got.Body)
			}
		}
	}
}
