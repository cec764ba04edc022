package journal_test

import (
	"context"
	"testing"

	kit "github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/journal"
	"github.com/ebb-dev/ebb/infra/personal"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// An instance that has used the key of a person a moment ago tells nothing of the person once another instance has
// destroyed the key: neither to a unit that writes, nor to one that only looks.
func TestErasedByAnotherInstance(t *testing.T) {
	db, keys := memory.Opener(memory.Twice()), personal.NewKey()
	var journals []*journal.Journal[owner, named]
	open := func() (*function.Function, *functiontest.Harness) {
		var f *function.Function
		h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
			f = function.New("owners", env)
			journals = append(journals, journal.New(f, "owners", func(o owner, e named) owner { return *e.Set }))
			return f, nil
		}, functiontest.Set(map[string]string{personal.Variable: keys}), func(h *functiontest.Harness) { h.Store = db })
		return f, h
	}
	one, _ := open()
	_, other := open()
	j := journals[0]
	ada := owner{"ada", "Ada King"}
	update := func(do func(ctx context.Context, tx *function.Tx) error) {
		t.Helper()
		if err := one.Update(t.Context(), do); err != nil {
			t.Fatal(err)
		}
	}
	load := func(write bool) (name string) {
		update(func(ctx context.Context, tx *function.Tx) error {
			state, err := j.Load(ctx, tx, "a")
			if name = state.Name; err == nil && write {
				_, err = j.Append(ctx, tx, "a", named{&owner{"ada", "Ada Byron"}})
			}
			return err
		})
		return name
	}
	update(func(ctx context.Context, tx *function.Tx) error {
		_, err := j.Create(ctx, tx, "a", named{&ada})
		return err
	})
	for range 3 {
		if got := load(false); got != "Ada King" {
			t.Fatalf("before: got %q", got)
		}
	}
	other.MustDeliver(kit.PersonErased.New("ada", kit.ErasedPerson{PersonID: "ada"}))
	if got := load(false); got != "erased" {
		t.Errorf("a unit that only looks gets %q", got)
	}
	if err := one.Read(t.Context(), func(ctx context.Context, tx *function.Tx) error {
		state, err := j.Load(ctx, tx, "a")
		if state.Name != "erased" {
			t.Errorf("a reader gets %q", state.Name)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if got := load(true); got != "erased" {
		t.Errorf("a unit that writes gets %q", got)
	}
	if got := load(false); got != "erased" {
		t.Errorf("what was written after the erasure is %q", got)
	}
}
