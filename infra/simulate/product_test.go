package simulate_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/simulate/internal/events"
	"github.com/ebb-dev/ebb/infra/store"
)

// sweptAt holds the time of the last sweep.
type sweptAt struct {
	At time.Time `json:"at"`
}

// sweeper is a clock function that only sweeps, every ten minutes as the real one does by default.
func sweeper(env function.Env) (*function.Function, error) {
	f := function.New("clock", env)
	sweeps := function.Collection[sweptAt](f, "sweeps")
	function.OnTick(f, func(ctx context.Context, tx *function.Tx, now time.Time) error {
		last, known, err := sweeps.Find(ctx, tx, "last")
		if err != nil || known && now.Sub(last.At).Abs() < 10*time.Minute {
			return err
		}
		if known {
			tx.Emit(event.ClockSwept.New("clock", event.SweptClock{At: now.UTC()}))
		}
		return sweeps.Put(ctx, tx, "last", sweptAt{now.UTC()})
	})
	function.Emits(f, event.ClockSwept)
	return f, nil
}

type tillInput struct {
	ID string `path:"id"`
}

// till takes orders over HTTP and emits an event for each.
func till(env function.Env) (*function.Function, error) {
	f := function.New("orders", env)
	orders := function.Collection[events.ConfirmedOrder](f, "orders")
	function.Serve(f, function.Operation{Method: http.MethodPost, Path: "/api/orders/{id}", Access: function.Public},
		func(ctx context.Context, tx *function.Tx, in *tillInput) (*struct{}, error) {
			o := events.ConfirmedOrder{OrderID: in.ID, CustomerID: in.ID, ConfirmedAt: tx.Now(),
				Total: events.Money{Amount: 1, Currency: "EUR"}}
			tx.Emit(events.OrderConfirmed.New(in.ID, o))
			return nil, orders.Put(ctx, tx, in.ID, o)
		})
	function.Emits(f, events.OrderConfirmed)
	return f, nil
}

// withoutOutbox returns a constructor of the function on a store that loses outbox entries.
func withoutOutbox(make func(function.Env) (*function.Function, error)) func(function.Env) (*function.Function, error) {
	return func(env function.Env) (*function.Function, error) {
		open := env.Store
		env.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, schema)
			return losing{db}, err
		}
		return make(env)
	}
}

type losing struct{ store.Driver }

func (l losing) Commit(ctx context.Context, b store.Batch) error {
	b.Mutations = slices.DeleteFunc(
		slices.Clone(b.Mutations),
		func(m store.Mutation) bool { return m.Collection == "_outbox" },
	)
	return l.Driver.Commit(ctx, b)
}

// product returns a small system with a clock: till takes orders from clients that never repeat a request, and each
// order is worth a point.
func product(till func(function.Env) (*function.Function, error)) simulate.System {
	return simulate.System{Begin: func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario {
		var actions []simulate.Action
		for n := range 10 {
			id := fmt.Sprint("order-", n)
			actions = append(
				actions,
				simulate.Action{At: time.Duration(r.Int64N(int64(time.Minute))), What: id, Do: func(sim *simulate.Simulation) {
					sim.Send(
						simulate.Request{Function: "orders", Method: http.MethodPost, Path: "/api/orders/" + id, Times: 1},
						func(simulate.Response) {},
					)
				}},
			)
		}
		return &simulate.Scenario{
			Functions: []simulate.Function{
				{Name: "orders", New: till},
				{Name: "loyalty", New: loyalty},
				{Name: "clock", New: sweeper},
			},
			Actions: actions,
			Check: func(sim *simulate.Simulation) {
				taken, rewarded := sim.Documents("orders", "orders"), sim.Documents("loyalty", "accounts")
				if len(taken) != len(rewarded) {
					sim.Violated("an order is worth no point: %s", fmt.Sprintf("%d orders, %d accounts", len(taken), len(rewarded)))
				}
			},
		}
	}}
}

// An event that could not be published waits in the outbox for the clock's sweep, and the simulation waits as long: no
// violation. An event that is really lost is still found.
func TestWaitsForTheSweep(t *testing.T) {
	for _, kind := range []simulate.Kind{simulate.BrokerError, simulate.CrashAfterCommit} {
		sys := product(till)
		sys.Faults, sys.MaxFaults = []simulate.Kind{kind}, 20
		simulate.Test(t, sys, 100)

		sys = product(withoutOutbox(till))
		sys.Faults, sys.MaxFaults = []simulate.Kind{kind}, 20
		var f failing
		if simulate.Test(&f, sys, 100); len(f.text) != 1 || !strings.Contains(f.text[0], "an order is worth no point") {
			t.Errorf("%s: got %q", kind, f.text)
		}
	}
}

// A clock that never sweeps is a violation.
func TestClockThatNeverSweeps(t *testing.T) {
	sys := product(till)
	begin := sys.Begin
	sys.Begin = func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario {
		s := begin(sim, r)
		s.Functions[2].New = func(env function.Env) (*function.Function, error) {
			f, err := sweeper(env)
			function.OnTick(f, func(context.Context, *function.Tx, time.Time) error { return nil })
			return f, err
		}
		return s
	}
	if r := simulate.Run(sys, 1); r.OK() || !strings.Contains(r.Violations[0].Text, "the clock does not sweep") {
		t.Errorf("got %s", r)
	}
}
