package journal_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	kit "github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/journal"
	"github.com/ebb-dev/ebb/infra/personal"
	"github.com/ebb-dev/ebb/infra/store"
)

// clearOwner and clearNamed are owner and named before the name was personal.
type (
	clearOwner struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}
	clearNamed struct {
		Set *clearOwner `json:"set,omitempty"`
	}
)

// What was stored before a field was personal is encrypted in the background, in the states and in the events, for an
// erased person replaced by the placeholder. What an older instance writes meanwhile is found by the pass after that.
func TestSealsWhatWasStoredBefore(t *testing.T) {
	var past *journal.Journal[clearOwner, clearNamed]
	var j *journal.Journal[owner, named]
	var oldF, f *function.Function
	old := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		oldF = function.New("owners", env)
		past = journal.New(oldF, "owners", func(_ clearOwner, e clearNamed) clearOwner { return *e.Set })
		return oldF, nil
	})
	create := func(id string) {
		t.Helper()
		if err := oldF.Update(t.Context(), func(ctx context.Context, tx *function.Tx) error {
			_, err := past.Create(ctx, tx, id, clearNamed{&clearOwner{id, "Name of " + id}})
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 120 {
		create(fmt.Sprintf("p%03d", n))
	}
	h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		f = function.New("owners", env)
		j = journal.New(f, "owners", func(_ owner, e named) owner { return *e.Set })
		return f, nil
	}, functiontest.Set(map[string]string{personal.Variable: personal.NewKey()}),
		func(h *functiontest.Harness) { h.Store = old.Store })
	inClear := func() (n int) {
		d := h.I.Declaration()
		db, err := h.Store(t.Context(), d.Name, d.Schema)
		if err != nil {
			t.Fatal(err)
		}
		for _, collection := range []string{"owners", "owners_events"} {
			docs, _, err := db.Query(t.Context(), store.Query{Collection: collection, Limit: store.MaxLimit})
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range docs {
				if strings.Contains(string(d.Data), "Name of") {
					n++
				}
			}
		}
		return n
	}
	work := func() {
		h.Clock.Advance(time.Second)
		h.MustDeliver(kit.PersonErased.New("x", kit.ErasedPerson{PersonID: fmt.Sprint("x", h.Clock.Now().UnixNano())}))
	}
	h.MustDeliver(kit.PersonErased.New("p001", kit.ErasedPerson{PersonID: "p001"}))
	for n := 0; inClear() > 0; n++ {
		if work(); n == 20 {
			t.Fatalf("%d documents are in the clear", inClear())
		}
	}
	create("a-late-one") // by the older instance, behind the pass
	h.Clock.Advance(time.Hour)
	for range 10 {
		work()
	}
	if n := inClear(); n > 0 {
		t.Errorf("%d documents that were written meanwhile are in the clear", n)
	}
	for id, want := range map[string]string{"p000": "Name of p000", "p001": "erased", "a-late-one": "Name of a-late-one"} {
		err := f.Read(t.Context(), func(ctx context.Context, tx *function.Tx) error {
			got, err := j.Load(ctx, tx, id)
			if err == nil && got.Name != want {
				t.Errorf("%s is named %q, want %q", id, got.Name, want)
			}
			all, err := j.History(ctx, tx, id)
			if err == nil && all[0].Events[0].Set.Name != want {
				t.Errorf("the event of %s has %q, want %q", id, all[0].Events[0].Set.Name, want)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}
