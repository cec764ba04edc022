package simulate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/simulate/internal/events"
)

// account is the document of a customer.
type account struct {
	Points int64  `json:"points"`
	Name   string `json:"name,omitempty"`
	function.Revision
}

type accountInput struct {
	ID string `path:"id"`
}

type accountOutput struct{ Body account }

// loyalty is a small function: it keeps a point for every cent that a customer spent, and the customer's name.
func loyalty(env function.Env) (*function.Function, error) {
	f := function.New("loyalty", env)
	accounts := function.Collection[account](f, "accounts")
	function.On(f, events.OrderConfirmed, func(ctx context.Context, tx *function.Tx, e events.ConfirmedOrder) error {
		a, _, err := accounts.Find(ctx, tx, e.CustomerID)
		if err != nil {
			return err
		}
		a.Points += e.Total.Amount
		return accounts.Put(ctx, tx, e.CustomerID, a)
	})
	function.On(f, events.UserChanged, func(ctx context.Context, tx *function.Tx, e events.ChangedUser) error {
		a, _, err := accounts.Find(ctx, tx, e.UserID)
		if err != nil || !a.Before(tx.Revision()) {
			return err
		}
		a.Name, a.Revision = e.Name, tx.Revision()
		return accounts.Put(ctx, tx, e.UserID, a)
	})
	function.Serve(f, function.Operation{Method: http.MethodGet, Path: "/api/accounts/{id}", Access: function.Public},
		func(ctx context.Context, tx *function.Tx, in *accountInput) (*accountOutput, error) {
			a, err := accounts.Get(ctx, tx, in.ID)
			return &accountOutput{a}, err
		})
	return f, nil
}

// emitted returns the event that its function would have sent.
func emitted(sim *simulate.Simulation, id string, d event.Draft, sequence int) ce.Event {
	data, err := d.Encode()
	if err != nil {
		sim.Violated("cannot encode: %v", err)
	}
	e := ce.New()
	e.SetID(id)
	e.SetSource("/functions/" + d.Info.Function)
	e.SetType(d.Info.Name)
	e.SetSubject(d.Subject)
	e.SetTime(sim.Now())
	e.SetExtension(event.PartitionKey, d.Key)
	e.SetExtension(event.Sequence, fmt.Sprint(sequence))
	_ = e.SetData(ce.ApplicationJSON, data)
	return e
}

// points returns a system in which customers spend and are renamed. In the end each has the points that they spent and
// their last name.
func points(make func(function.Env) (*function.Function, error)) simulate.System {
	return simulate.System{Begin: func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario {
		spent, called := map[string]int64{}, map[string]string{}
		var actions []simulate.Action
		for n := range 40 {
			who, amount := fmt.Sprint("customer-", r.IntN(3)), 1+r.Int64N(1000)
			at := time.Duration(r.Int64N(int64(time.Minute)))
			actions = append(
				actions,
				simulate.Action{At: at, What: fmt.Sprintf("%s spends %d", who, amount), Do: func(sim *simulate.Simulation) {
					spent[who] += amount
					sim.Count("orders", 1)
					id := fmt.Sprint("order-", n)
					sim.Publish(emitted(sim, id, events.OrderConfirmed.New(id, events.ConfirmedOrder{OrderID: id, CustomerID: who,
						Total: events.Money{Amount: amount, Currency: "EUR"}, ConfirmedAt: sim.Now()}), 1))
				}},
			)
		}
		for n := range 20 { // two at a time
			who, name := fmt.Sprint("customer-", n/2%3), fmt.Sprint("name ", n)
			at := time.Duration(n/2)*6*time.Second + time.Duration(n%2)*200*time.Millisecond
			actions = append(
				actions,
				simulate.Action{At: at, What: who + " is called " + name, Do: func(sim *simulate.Simulation) {
					called[who] = name
					u := events.ChangedUser{UserID: who, Name: name, Email: "a@example.com"}
					sim.Publish(emitted(sim, name, events.UserChanged.New(who, u), n+1))
				}},
			)
		}
		return &simulate.Scenario{
			Functions: []simulate.Function{{Name: "loyalty", New: make, Next: make}},
			Actions:   actions,
			Projections: []simulate.Projection{{Function: "loyalty", Collections: []string{"accounts"},
				Types: []string{events.OrderConfirmed.Name(), events.UserChanged.Name()}}},
			Check: func(sim *simulate.Simulation) {
				has := map[string]account{}
				for _, d := range sim.Documents("loyalty", "accounts") {
					var a account
					_ = json.Unmarshal(d.Data, &a)
					has[d.ID] = a
				}
				for who, want := range spent {
					if got := has[who].Points; got != want {
						sim.Violated("a customer has other points than they spent: %s", fmt.Sprintf("%s has %d of %d", who, got, want))
					}
					got := sim.Call(simulate.Request{Function: "loyalty", Method: http.MethodGet, Path: "/api/accounts/" + who})
					if got.Status != http.StatusOK {
						sim.Violated("an account is answered %d", got.Status)
					}
				}
				for who, want := range called {
					if got := has[who].Name; got != want {
						sim.Violated("a customer has an old name: %s", fmt.Sprintf("%s %q, not %q", who, got, want))
					}
				}
			},
		}
	}}
}

// A single function passes under all kinds of faults.
func TestLoyalty(t *testing.T) {
	simulate.Test(t, points(loyalty), 100)
}

// failing is a simulate.TB that records the failures.
type failing struct{ text []string }

func (f *failing) Helper()             {}
func (f *failing) Logf(string, ...any) {}
func (f *failing) Errorf(format string, args ...any) {
	f.text = append(f.text, fmt.Sprintf(format, args...))
}

// broken returns a loyalty function with other handlers.
func broken(handle func(ctx context.Context, tx *function.Tx, a account, e events.ConfirmedOrder) (account, error),
	rename func(a account, m function.Revision, name string) account) func(env function.Env) (*function.Function, error) {
	return func(env function.Env) (*function.Function, error) {
		f := function.New("loyalty", env)
		accounts := function.Collection[account](f, "accounts")
		function.On(f, events.OrderConfirmed, func(ctx context.Context, tx *function.Tx, e events.ConfirmedOrder) error {
			a, _, err := accounts.Find(ctx, tx, e.CustomerID)
			if err == nil {
				a, err = handle(ctx, tx, a, e)
			}
			if err != nil {
				return err
			}
			return accounts.Put(ctx, tx, e.CustomerID, a)
		})
		function.On(f, events.UserChanged, func(ctx context.Context, tx *function.Tx, e events.ChangedUser) error {
			a, _, err := accounts.Find(ctx, tx, e.UserID)
			if err != nil {
				return err
			}
			return accounts.Put(ctx, tx, e.UserID, rename(a, tx.Revision(), e.Name))
		})
		function.Serve(f, function.Operation{Method: http.MethodGet, Path: "/api/accounts/{id}", Access: function.Public},
			func(ctx context.Context, tx *function.Tx, in *accountInput) (*accountOutput, error) {
				a, err := accounts.Get(ctx, tx, in.ID)
				return &accountOutput{a}, err
			})
		return f, nil
	}
}

func add(_ context.Context, _ *function.Tx, a account, e events.ConfirmedOrder) (account, error) {
	a.Points += e.Total.Amount
	return a, nil
}

func latest(a account, m function.Revision, name string) account {
	if a.Before(m) {
		a.Name, a.Revision = name, m
	}
	return a
}

// Each common mistake is found by its kind of fault, with a short trace.
func TestFindsMistakes(t *testing.T) {
	for name, c := range map[string]struct {
		make func(function.Env) (*function.Function, error)
		by   simulate.Kind
		text string
	}{
		"it applies events in the order of arrival": {
			broken(add, func(a account, _ function.Revision, name string) account { a.Name = name; return a }),
			simulate.Reorder, "old name",
		},
		"it believes its clock": {
			broken(func(ctx context.Context, tx *function.Tx, a account, e events.ConfirmedOrder) (account, error) {
				if tx.Now().Sub(e.ConfirmedAt).Abs() > 30*time.Second {
					return a, nil // taken for a duplicate
				}
				return add(ctx, tx, a, e)
			}, latest),
			simulate.Skew, "other points",
		},
		"it gives up what comes late": {
			broken(func(ctx context.Context, tx *function.Tx, a account, e events.ConfirmedOrder) (account, error) {
				if tx.Now().Sub(e.ConfirmedAt) > 2*time.Second {
					return a, nil
				}
				return add(ctx, tx, a, e)
			}, latest),
			simulate.Delay, "other points",
		},
		"it has no patience": {
			broken(func(ctx context.Context, tx *function.Tx, a account, e events.ConfirmedOrder) (account, error) {
				if tx.Now().Sub(tx.Event().Time()) > 10*time.Second {
					return a, fault.New(fault.Invalid, "too old")
				}
				return add(ctx, tx, a, e)
			}, latest),
			simulate.Slow, "dead letter",
		},
		"it answers 500": {
			broken(func(_ context.Context, tx *function.Tx, a account, _ events.ConfirmedOrder) (account, error) {
				if tx.Now().Sub(tx.Event().Time()) > 3*time.Second {
					return a, errors.New("never thought of")
				}
				return a, nil
			}, latest),
			simulate.Jump, "500",
		},
	} {
		t.Run(name, func(t *testing.T) {
			sys := points(c.make)
			sys.Faults, sys.MaxFaults = []simulate.Kind{c.by}, 30
			var f failing
			simulate.Test(&f, sys, 200)
			if len(f.text) != 1 || !strings.Contains(f.text[0], c.text) ||
				!strings.Contains(f.text[0], "FAULT ("+string(c.by)+")") {
				t.Errorf("got %q", f.text)
			}
			if lines := strings.Count(strings.Join(f.text, ""), "\n"); lines > 60 {
				t.Errorf("the trace has %d lines", lines)
			}
		})
	}
}

// State in memory is lost when a function stops, which is found.
func TestFindsMemory(t *testing.T) {
	sys := points(func(env function.Env) (*function.Function, error) {
		remembered := map[string]int64{}
		return broken(func(_ context.Context, _ *function.Tx, a account, e events.ConfirmedOrder) (account, error) {
			remembered[e.CustomerID] += e.Total.Amount
			a.Points = remembered[e.CustomerID]
			return a, nil
		}, latest)(env)
	})
	for _, kind := range []simulate.Kind{simulate.Crash, simulate.Drop, simulate.Deploy, simulate.Scale} {
		sys.Faults = []simulate.Kind{kind}
		var f failing
		if simulate.Test(&f, sys, 200); len(f.text) != 1 {
			t.Errorf("%s: got %q", kind, f.text)
		}
	}
	sys.MaxFaults = -1
	simulate.Test(t, sys, 5) // without faults it works
}

// A runner stops with its context, goes on after a failure if Enough says so, and counts.
func TestRunner(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if p, _ := (simulate.Runner{System: points(loyalty), Seeds: 100}).Run(ctx); p.Done != 0 {
		t.Errorf("ran %d seeds of an ended context", p.Done)
	}
	sys := points(broken(add, func(a account, _ function.Revision, name string) account { a.Name = name; return a }))
	sys.Faults = []simulate.Kind{simulate.Reorder}
	calls := 0
	p, failed := simulate.Runner{
		System:     sys,
		First:      7,
		Seeds:      60,
		Workers:    3,
		Every:      1,
		OnProgress: func(simulate.Progress) { calls++ },
		Enough:     func(*simulate.Report) bool { return false },
	}.Run(
		t.Context(),
	)
	if p.Done != 60 || p.Failed < 2 || len(failed) != p.Failed || calls != 60 || p.Counts["orders"] != 60*40 ||
		p.Injected[simulate.Reorder] == 0 {
		t.Errorf("got %s, %d calls", p, calls)
	}
	for i, f := range failed {
		if f.Seed < 7 || f.Seed > 66 || i > 0 && failed[i-1].Seed >= f.Seed {
			t.Errorf("got seed %d", f.Seed)
		}
	}
	if text := p.String(); !strings.Contains(text, "60 of 60 seeds") || !strings.Contains(text, "2400 orders") {
		t.Errorf("got %q", text)
	}
}

// An event that kills the process each time is a dead letter, as others of the function are handled. Where it hides
// behind the pause of an outage, that is found.
func TestDeadlyPoison(t *testing.T) {
	sys := points(loyalty)
	sys.Faults, sys.MaxFaults = []simulate.Kind{simulate.Deadly, simulate.StoreOutage}, 6
	injected := 0
	for seed := uint64(1); seed <= 50; seed++ {
		r := simulate.Run(sys, seed)
		if !r.OK() {
			t.Errorf("got %s", r)
		}
		for _, f := range r.Injected {
			if f.Kind == simulate.Deadly {
				injected++
			}
		}
	}
	if injected < 20 {
		t.Errorf("%d deadly events in 50 seeds", injected)
	}
	defer simulate.HidePoison()()
	for seed := uint64(1); seed <= 200; seed++ {
		if r := simulate.Run(sys, seed); !r.OK() {
			t.Logf("poison hides behind the pause: seed %d: %s", seed, r.Violations[0].Text)
			return
		}
	}
	t.Error("200 seeds find nothing where poison hides behind the pause")
}

// A system that does not come to rest is a violation, and the run ends. Events that are refused are dead letters; those
// of a function that is away wait.
func TestEndsWithoutRest(t *testing.T) {
	never := func(kind fault.Kind) simulate.System {
		sys := points(broken(func(_ context.Context, _ *function.Tx, a account, _ events.ConfirmedOrder) (account, error) {
			return a, fault.New(kind, "never")
		}, latest))
		sys.MaxFaults, sys.Horizon = -1, time.Minute
		return sys
	}
	short := never(fault.Conflict)
	short.Settle = 5 * time.Second
	for _, sys := range []simulate.System{short, never(fault.Unavailable)} {
		if r := simulate.Run(sys, 1); r.OK() || !strings.Contains(r.Violations[0].Text, "come to rest") {
			t.Errorf("got %s", r)
		}
	}
	if r := simulate.Run(never(fault.Conflict), 1); !strings.Contains(r.String(), "dead letter") {
		t.Errorf("got %s", r)
	}
}

// A constructor that fails is a violation and not a panic; so is a request to an unknown function.
func TestBadSystems(t *testing.T) {
	failing := func(function.Env) (*function.Function, error) { return nil, errors.New("no") }
	if r := simulate.Run(points(failing), 1); r.OK() {
		t.Error("a function that cannot be made was")
	}
	sys := points(loyalty)
	begin := sys.Begin
	sys.Begin = func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario {
		s := begin(sim, r)
		s.Setup = func(sim *simulate.Simulation) {
			if got := sim.Call(simulate.Request{Function: "nobody", Method: http.MethodGet, Path: "/"}); got.Status != 0 {
				sim.Violated("an unknown function answers %d", got.Status)
			}
		}
		return s
	}
	if r := simulate.Run(sys, 1); len(r.Violations) != 1 || r.Violations[0].Text != `unknown function "nobody"` {
		t.Errorf("got %s", r)
	}
}
