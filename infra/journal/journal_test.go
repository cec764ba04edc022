package journal_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/config"
	kit "github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/journal"
	"github.com/ebb-dev/ebb/infra/personal"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// An account has an owner and a balance.
type account struct {
	Owner   string `json:"owner"`
	Balance int    `json:"balance"`
	Moves   int    `json:"moves,omitempty"`
}

type event struct {
	Owner string `json:"owner,omitempty"`
	Paid  int    `json:"paid,omitempty"`
}

func fold(a account, e event) account {
	if e.Owner != "" {
		a.Owner = e.Owner
	}
	a.Balance += e.Paid
	return a
}

// countingFold is the next revision: it also counts.
func countingFold(a account, e event) account {
	a = fold(a, e)
	a.Moves++
	return a
}

type bank struct {
	t *testing.T
	f *function.Function
	j *journal.Journal[account, event]
}

func open(t *testing.T, db store.Opener, fold func(account, event) account, revision int) bank {
	t.Helper()
	f := function.New("bank", function.Env{Store: db})
	j := journal.New(
		f,
		"accounts",
		fold,
		journal.Revision(revision),
		journal.Indexes(store.On("state.owner", "state.balance")),
	)
	if err := f.Instance().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Instance().Stop(context.Background()) })
	return bank{t, f, j}
}

func (b bank) update(fn func(ctx context.Context, tx *function.Tx) error) error {
	return b.f.Update(b.t.Context(), fn)
}

func (b bank) append(id string, happened ...event) account {
	b.t.Helper()
	var got account
	if err := b.update(func(ctx context.Context, tx *function.Tx) (err error) {
		got, err = b.j.Append(ctx, tx, id, happened...)
		return err
	}); err != nil {
		b.t.Fatal(err)
	}
	return got
}

func (b bank) load(id string) account {
	b.t.Helper()
	var got account
	if err := b.f.Read(b.t.Context(), func(ctx context.Context, tx *function.Tx) (err error) {
		got, err = b.j.Load(ctx, tx, id)
		return err
	}); err != nil {
		b.t.Fatal(err)
	}
	return got
}

// Load returns the fold of what was appended, and History the groups in which it was appended.
func TestAppendAndLoad(t *testing.T) {
	b := open(t, memory.Opener(memory.Twice()), fold, 1)
	b.append("a", event{Owner: "ada"}, event{Paid: 5})
	if got, want := b.append("a", event{Paid: 2}), (account{Owner: "ada", Balance: 7}); got != want {
		t.Errorf("append answers %+v, want %+v", got, want)
	}
	b.append("a") // nothing happened
	if got, want := b.load("a"), (account{Owner: "ada", Balance: 7}); got != want {
		t.Errorf("loaded %+v, want %+v", got, want)
	}
	err := b.f.Read(t.Context(), func(ctx context.Context, tx *function.Tx) error {
		h, err := b.j.History(ctx, tx, "a")
		if len(h) != 2 || len(h[0].Events) != 2 || h[1].Version != 2 || h[1].Events[0].Paid != 2 {
			t.Errorf("history is %+v", h)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// An aggregate without events does not exist.
func TestMissing(t *testing.T) {
	b := open(t, memory.Opener(), fold, 1)
	_ = b.f.Read(t.Context(), func(ctx context.Context, tx *function.Tx) error {
		if _, err := b.j.Load(ctx, tx, "nobody"); !fault.Is(err, fault.NotFound) {
			t.Errorf("load answers %v, want not found", err)
		}
		if _, err := b.j.History(ctx, tx, "nobody"); !fault.Is(err, fault.NotFound) {
			t.Errorf("history answers %v, want not found", err)
		}
		if _, ok, err := b.j.Find(ctx, tx, "nobody"); ok || err != nil {
			t.Errorf("find answers %v, %v", ok, err)
		}
		return nil
	})
}

// Create is for new ids only, and several appends may share one unit of work.
func TestCreate(t *testing.T) {
	b := open(t, memory.Opener(memory.Twice()), fold, 1)
	create := func(ctx context.Context, tx *function.Tx) error {
		if _, err := b.j.Create(ctx, tx, "a", event{Owner: "ada"}); err != nil {
			return err
		}
		_, err := b.j.Append(ctx, tx, "a", event{Paid: 3})
		return err
	}
	if err := b.update(create); err != nil {
		t.Fatal(err)
	}
	if got, want := b.load("a"), (account{Owner: "ada", Balance: 3}); got != want {
		t.Errorf("loaded %+v, want %+v", got, want)
	}
	if err := b.update(create); !fault.Is(err, fault.Conflict) {
		t.Errorf("creating again answers %v, want conflict", err)
	}
	if err := b.update(func(ctx context.Context, tx *function.Tx) error {
		_, err := b.j.Create(ctx, tx, "b")
		return err
	}); err == nil {
		t.Error("an aggregate was created by nothing")
	}
}

// Change decides on the current state; no events and a refusal change nothing.
func TestChange(t *testing.T) {
	b := open(t, memory.Opener(memory.Twice()), fold, 1)
	b.append("a", event{Owner: "ada"}, event{Paid: 5})
	double := func(a account) ([]event, error) { return []event{{Paid: a.Balance}}, nil }
	nothing := func(account) ([]event, error) { return nil, nil }
	refuse := func(account) ([]event, error) { return []event{{Paid: 1}}, fault.New(fault.Denied, "no") }
	for _, tt := range []struct {
		id     string
		decide func(account) ([]event, error)
		want   int
		kind   fault.Kind
	}{{"a", double, 10, 0}, {"a", nothing, 10, 0}, {"a", refuse, 10, fault.Denied}, {"nobody", double, 0,
		fault.NotFound}} {
		var got account
		err := b.update(func(ctx context.Context, tx *function.Tx) (err error) {
			got, err = b.j.Change(ctx, tx, tt.id, tt.decide)
			return err
		})
		if got.Balance != tt.want || (err != nil) != (tt.kind != 0) || err != nil && !fault.Is(err, tt.kind) {
			t.Errorf("%s: got %+v, %v; want %d, %s", tt.id, got, err, tt.want, tt.kind)
		}
	}
	if got := b.load("a").Balance; got != 10 {
		t.Errorf("the balance is %d, want 10", got)
	}
}

// A fold of another revision makes the state from the events again, on loads, queries and appends.
func TestRefold(t *testing.T) {
	db := memory.Opener(memory.Twice())
	old := open(t, db, fold, 1)
	old.append("a", event{Owner: "ada"}, event{Paid: 5})
	old.append("a", event{Paid: 2})

	b := open(t, db, countingFold, 2)
	want := account{Owner: "ada", Balance: 7, Moves: 3}
	if got := b.load("a"); got != want {
		t.Errorf("loaded %+v, want %+v", got, want)
	}
	err := b.f.Read(t.Context(), func(ctx context.Context, tx *function.Tx) error {
		page, err := b.j.Query(
			ctx,
			tx,
			store.Find{Where: []store.Filter{{Field: "state.owner", Op: store.Equal, Value: "ada"}}},
		)
		if err == nil && (len(page.Items) != 1 || page.Items[0].Value != want || page.Items[0].Version != 2) {
			t.Errorf("query found %+v", page)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := b.append("a", event{Paid: 1}), (account{Owner: "ada", Balance: 8, Moves: 4}); got != want {
		t.Errorf("append answers %+v, want %+v", got, want)
	}
}

// Twenty writers at once: no append is lost.
func TestParallelAppends(t *testing.T) {
	b := open(t, memory.Opener(), fold, 1)
	b.append("a", event{Owner: "ada"})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for {
				err := b.update(func(ctx context.Context, tx *function.Tx) error {
					_, err := b.j.Append(ctx, tx, "a", event{Paid: 1})
					return err
				})
				if !fault.Is(err, fault.Conflict) {
					if err != nil {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	all.Wait()
	if got, want := b.load("a"), (account{Owner: "ada", Balance: 20}); got != want {
		t.Errorf("loaded %+v, want %+v", got, want)
	}
}

// An owner is an account with a personal field.
type owner struct {
	ID   string `json:"id" person:"id"`
	Name string `json:"name,omitempty" personal:"erased"`
}

type named struct {
	Set *owner `json:"set,omitempty"`
}

// Personal fields of states and events are stored encrypted, and are placeholders when the person is erased. What was
// stored before the fields were personal is read as it is.
func TestPersonal(t *testing.T) {
	db := memory.Opener(memory.Twice())
	f := function.New("owners", function.Env{
		Store: db, Lookup: config.Map(map[string]string{personal.Variable: personal.NewKey()}),
		Publisher: nowhere{},
	})
	j := journal.New(f, "owners", func(o owner, e named) owner { return *e.Set }, journal.Indexes(store.On("state.id")))
	if err := f.Instance().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	update := func(do func(ctx context.Context, tx *function.Tx) error) {
		t.Helper()
		if err := f.Update(t.Context(), do); err != nil {
			t.Fatal(err)
		}
	}
	ada := owner{"ada", "Ada Byron"}
	update(func(ctx context.Context, tx *function.Tx) error {
		got, err := j.Create(ctx, tx, "a", named{&ada})
		if got != ada {
			t.Errorf("after Create: got %v", got)
		}
		return err
	})
	update(func(ctx context.Context, tx *function.Tx) error {
		got, err := j.Append(ctx, tx, "a", named{&owner{"ada", "Ada King"}})
		if got.Name != "Ada King" || ada.Name != "Ada Byron" {
			t.Errorf("after Append: got %v, and the event has become %v", got, ada)
		}
		return err
	})
	names := func() (all []string) {
		update(func(ctx context.Context, tx *function.Tx) error {
			all = nil
			state, err := j.Load(ctx, tx, "a")
			if err != nil {
				return err
			}
			groups, err := j.History(ctx, tx, "a")
			if err != nil {
				return err
			}
			page, err := j.Query(ctx, tx, store.Find{})
			all = append(all, state.Name, groups[0].Events[0].Set.Name, groups[1].Events[0].Set.Name, page.Items[0].Value.Name)
			return err
		})
		return all
	}
	if got, want := names(), []string{"Ada King", "Ada Byron", "Ada King", "Ada King"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	d := f.Instance().Declaration()
	stored, err := db(t.Context(), d.Name, d.Schema)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"owners", "owners_events"} {
		docs, _, err := stored.Query(t.Context(), store.Query{Collection: name, Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range docs {
			if strings.Contains(string(d.Data), "Ada ") || !strings.Contains(string(d.Data), "sealed:") {
				t.Errorf("%s: got %s", name, d.Data)
			}
		}
	}
	e := ce.New()
	e.SetID("1")
	e.SetSource("/functions/users")
	e.SetType(kit.PersonErased.Name())
	if err := e.SetData(ce.ApplicationJSON, kit.ErasedPerson{PersonID: "ada"}); err != nil {
		t.Fatal(err)
	}
	if r := f.Instance().Receive(t.Context(), []ce.Event{e}); !r[0].OK() {
		t.Fatal(r)
	}
	if got, want := names(), []string{"erased", "erased", "erased", "erased"}; !slices.Equal(got, want) {
		t.Errorf("after the erasure: got %v, want %v", got, want)
	}
}

// nowhere is a publisher that drops its events.
type nowhere struct{}

func (nowhere) Publish(context.Context, ...ce.Event) error { return nil }
