package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/functions/clock"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/outside"
	"github.com/ebb-dev/ebb/infra/simulate"
)

// BrokenTill declares how a till differs from the real one. The zero BrokenTill is the real till.
type BrokenTill struct {
	Change func(*simulate.Function) // changes the function; nil: none
	KeyOf  func(tx *function.Tx) string
	Inside bool // the bank is called inside the transaction of the handler
	OneKey bool // all calls have the same key
}

// payment is the data of the till's documents and events.
type payment struct {
	ID     string `json:"id"`
	Status string `json:"status,omitempty"`
	Count  int    `json:"count,omitempty"`
}

var (
	tillEvents = event.NewNamespace("com.example", "https://example.com/schemas/")
	saleBegun  = event.Define(tillEvents, "till.sale-begun", 1, event.Fact, "A sale has begun.", payment{ID: "p1"})
	salePaid   = event.Define(tillEvents, "till.sale-paid", 1, event.Fact, "A sale is paid.",
		payment{ID: "p1", Status: "paid"})
)

// Till returns a system whose function has money moved by a bank: for an event and for a request by outside calls, for
// another request by a call in its handler, under the key of the request. Its clients are impatient: they send a
// request once more before they have the answer.
func Till(b BrokenTill) simulate.System {
	return simulate.System{
		Settle: 20 * time.Minute,
		Begin:  func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario { return beginTill(sim, r, b) },
	}
}

// till is the state of one run.
type till struct {
	sim    *simulate.Simulation
	broken BrokenTill
	moved  map[string]int // how often the bank has moved money, by key
	asked  map[string]int // requests and events, by the name of what they ask for
}

func beginTill(sim *simulate.Simulation, r *rand.Rand, b BrokenTill) *simulate.Scenario {
	s := &till{sim: sim, broken: b, moved: map[string]int{}, asked: map[string]int{}}
	made := simulate.Function{Name: "till", New: s.new, Next: s.new, Env: env("30s")}
	if b.Change != nil {
		b.Change(&made)
	}
	sc := &simulate.Scenario{
		Functions: []simulate.Function{made, {Name: "clock", New: clock.New, Next: clock.New, Env: env("30s")}},
		Remotes:   []string{"till"}, Check: s.check,
		Settled: func(sim *simulate.Simulation) bool {
			return len(sim.Documents("till", outside.Collection)) == 0 && len(sim.Documents("clock", "timers")) == 0
		},
	}
	for n := range 10 + r.IntN(10) {
		at := time.Duration(r.Int64N(int64(time.Minute)))
		again := time.Duration(r.Int64N(int64(200 * time.Millisecond)))
		way := []string{"event", "sales", "tips", "pins"}[r.IntN(4)]
		id := fmt.Sprint(way, "-", n)
		ask := func(*simulate.Simulation) {
			s.asked[way]++
			if way == "event" {
				sim.Publish(emitted(sim, n, saleBegun.New(id, payment{ID: id}), 1))
				return
			}
			s.send(way, id)
			sim.After(again, func() { s.send(way, id) })
		}
		sc.Actions = append(sc.Actions, simulate.Action{At: at, What: "a client asks for " + id, Do: ask})
	}
	return sc
}

func (s *till) send(way, id string) {
	want := map[string]int{"sales": http.StatusAccepted, "tips": http.StatusOK, "pins": http.StatusForbidden}[way]
	s.sim.Send(simulate.Request{
		Function: "till", Method: http.MethodPost, Path: "/api/" + way, Token: token(customer(0)), Key: id,
		Body: payment{ID: id},
	}, func(a simulate.Response) {
		if a.Status != want {
			s.sim.Violated("the till answers %d to "+way, a.Status)
		}
	})
}

// bank moves money once for each key.
func (s *till) bank(key, what string) error {
	if s.broken.OneKey {
		key = "money"
	}
	return s.sim.RemoteCall(key, what, func() error {
		s.moved[key]++
		return nil
	})
}

// new declares the till.
func (s *till) new(e function.Env) (*function.Function, error) {
	f := function.New("till", e)
	payments := function.Collection[payment](f, "payments")
	tally := function.Collection[payment](f, "tally")
	calls := outside.New(f)
	ended := func(ctx context.Context, tx *function.Tx, p payment) error {
		p.Status = "paid"
		tx.Emit(salePaid.New(p.ID, p))
		return payments.Create(ctx, tx, p.ID, p)
	}
	count := func(ctx context.Context, tx *function.Tx, id string) error { // all of them write one document
		t, _, err := tally.Find(ctx, tx, id)
		t.ID, t.Count = id, t.Count+1
		if err != nil {
			return err
		}
		return tally.Put(ctx, tx, id, t)
	}
	charge := outside.Declare(calls, "charge", outside.Policy{GiveUp: -1},
		func(_ context.Context, r outside.Request[payment]) (payment, error) {
			return r.In, s.bank(r.Key, "charge "+r.ID)
		},
		func(ctx context.Context, tx *function.Tx, r outside.Result[payment, payment]) error {
			if err := count(ctx, tx, "charges"); err != nil {
				return err
			}
			return ended(ctx, tx, r.In)
		})
	begin := func(ctx context.Context, tx *function.Tx, p payment) error {
		if !s.broken.Inside {
			return charge.Start(ctx, tx, p.ID, p)
		}
		if err := s.bank("till/charge/"+p.ID, "charge "+p.ID); err != nil {
			return err
		}
		if err := count(ctx, tx, "charges"); err != nil {
			return err
		}
		return ended(ctx, tx, p)
	}
	function.Emits(f, salePaid)
	function.On(f, saleBegun, begin)
	type input struct{ Body payment }
	serve := func(path string, status int, do func(context.Context, *function.Tx, payment) error) {
		op := function.Operation{Method: http.MethodPost, Path: "/api/" + path, Summary: path, Status: status}
		function.Serve(f, op, func(ctx context.Context, tx *function.Tx, in *input) (*struct{ Body payment }, error) {
			return &struct{ Body payment }{in.Body}, do(ctx, tx, in.Body)
		})
	}
	serve("sales", http.StatusAccepted, begin)
	serve("tips", http.StatusOK, func(ctx context.Context, tx *function.Tx, p payment) error {
		key := tx.Key("tip")
		if s.broken.KeyOf != nil {
			key = s.broken.KeyOf(tx)
		}
		if err := s.sim.RemoteAgain(key, "tip "+p.ID, func() error { s.moved[key]++; return nil }); err != nil {
			return err
		}
		return count(ctx, tx, "tips")
	})
	serve("pins", http.StatusForbidden, func(ctx context.Context, tx *function.Tx, _ payment) error {
		if err := count(ctx, tx, "pins"); err != nil {
			return err
		}
		return function.CommitThen(fault.New(fault.Denied, "a wrong PIN, which counts"))
	})
	return f, nil
}

// check checks that everything that was asked for happened once.
func (s *till) check(sim *simulate.Simulation) {
	paid, tally := sim.Documents("till", "payments"), documents[payment](sim, "till", "tally")
	if want := s.asked["event"] + s.asked["sales"]; len(paid) != want || tally["charges"].Count != want {
		sim.Violated("sales are lost or counted twice: %s",
			fmt.Sprintf("%d asked for, %d paid, %d counted", want, len(paid), tally["charges"].Count))
	}
	for _, way := range []string{"tips", "pins"} {
		if got := tally[way].Count; got != s.asked[way] {
			sim.Violated(way+" are lost or counted twice: %s", fmt.Sprintf("%d asked for, %d counted", s.asked[way], got))
		}
	}
	if got, want := len(s.moved), s.asked["event"]+s.asked["sales"]+s.asked["tips"]; got != want {
		sim.Violated("the bank has moved money under another number of keys: %s", fmt.Sprintf("%d, not %d", got, want))
	}
	sim.Count("payments", s.asked["event"]+s.asked["sales"]+s.asked["tips"])
}
