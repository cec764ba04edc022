package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/functions/clock"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
)

// Ledger returns a small system of a function that uses its store in every way that the shop does not. Many requests
// come at once, so that its units of work meet.
func Ledger(b Broken) simulate.System {
	return simulate.System{
		Settle: 20 * time.Minute,
		Begin: func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario {
			l := &ledger{sim: sim, rng: rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))}
			return l.scenario(r, b)
		},
	}
}

// ledger is the state of one run.
type ledger struct {
	sim       *simulate.Simulation
	rng       *rand.Rand
	deposited int64
	sent      int
	holders   int
}

func (l *ledger) scenario(r *rand.Rand, b Broken) *simulate.Scenario {
	made := []simulate.Function{
		{Name: "ledger", New: l.declare, Next: l.declare, Env: env("30s")},
		{Name: "hall", New: newHall, Next: newHall, Env: env("30s")},
		{Name: "clock", New: clock.New, Next: clock.New, Env: env("30s")},
	}
	if b.Change != nil {
		b.Change(&made[0])
	}
	sc := &simulate.Scenario{
		Functions: made, Handle: b.Handle, Serve: b.Serve,
		Setup: func(*simulate.Simulation) { l.send("PUT", "/api/purses/main", purse{Owner: owner}, nil) },
		Check: l.check,
	}
	for n := range 1 + r.IntN(6) {
		at, size := time.Duration(r.Int64N(int64(time.Minute))), 2+r.IntN(4)
		sc.Actions = append(sc.Actions, simulate.Action{
			At: at, What: fmt.Sprintf("%d deposits at once, number %d", size, n),
			Do: func(*simulate.Simulation) {
				for range size {
					l.deposit()
				}
			},
		})
	}
	for n := range 1 + r.IntN(3) {
		at, length := time.Duration(r.Int64N(int64(time.Minute))), 2+r.IntN(4)
		sc.Actions = append(sc.Actions, simulate.Action{
			At: at, What: fmt.Sprintf("%d guests take the seat %d one after the other", length, n),
			Do: func(*simulate.Simulation) { l.seat(fmt.Sprint("seat-", n), length) },
		})
	}
	return sc
}

// send sends a request of its own Idempotency-Key, and counts one that succeeds.
func (l *ledger) send(method, path string, body any, done func(simulate.Response)) {
	l.sent++
	request := simulate.Request{
		Function: "ledger", Method: method, Path: path, Body: body, Token: token("admin"), Key: fmt.Sprint("key-", l.sent),
	}
	l.sim.Send(request, func(a simulate.Response) {
		if a.OK() {
			l.sim.Count("changes", 1)
		}
		if done != nil {
			done(a)
		}
	})
}

func (l *ledger) deposit() {
	amount := int64(1 + l.sent%9)
	l.send("POST", "/api/deposits", deposit{Owner: owner, Amount: amount}, func(a simulate.Response) {
		if a.OK() {
			l.deposited += amount
		}
	})
}

// seat has a guest take a seat and leave it, which is said twice at once, and then the next.
func (l *ledger) seat(id string, length int) {
	if length == 0 {
		return
	}
	l.holders++
	body := guest{Name: fmt.Sprint("guest-", l.holders)}
	l.send("POST", "/api/seats/"+id+"/taking", body, func(a simulate.Response) {
		if !a.OK() {
			return
		}
		left := false
		for range 2 {
			l.send("POST", "/api/seats/"+id+"/leaving", body, func(a simulate.Response) {
				if a.OK() && !left {
					left = true
					l.seat(id, length-1)
				}
			})
		}
	})
}

// checkSeats checks that each seat has the guest who has taken it and not left, and that the hall knows it.
func (l *ledger) checkSeats(sim *simulate.Simulation) {
	seats, shown := documents[guest](sim, "ledger", "seats"), documents[shownSeat](sim, "hall", "seats")
	sitting := map[string]string{}
	for name, v := range documents[visit](sim, "ledger", "visits") {
		if !v.Left {
			sitting[v.Seat] += name
		}
	}
	for id, known := range shown {
		if got := seats[id].Name; got != sitting[id] {
			sim.Violated("a guest has lost a seat: %s", fmt.Sprintf("%s has %q, not %q", id, got, sitting[id]))
		}
		if known.Name != seats[id].Name {
			sim.Violated("a consumer has dropped the latest event: %s",
				fmt.Sprintf("%s has %q, and the hall shows %q", id, seats[id].Name, known.Name))
		}
	}
}

func (l *ledger) check(sim *simulate.Simulation) {
	l.checkSeats(sim)
	for id, a := range documents[purse](sim, "ledger", "purses") {
		if a.Balance != l.deposited {
			sim.Violated("an acknowledged deposit is lost: %s", fmt.Sprintf("%s has %d of %d", id, a.Balance, l.deposited))
		}
	}
}

const owner = "ann"

type purse struct {
	Owner   string `json:"owner"`
	Balance int64  `json:"balance"`
}

type deposit struct {
	Owner  string `json:"owner"`
	Amount int64  `json:"amount"`
}

// guest is who has a seat; without a name: the seat is free.
type guest struct {
	Name string `json:"name"`
}

type visit struct {
	Seat string `json:"seat"`
	Left bool   `json:"left,omitempty"`
}

type shownSeat struct {
	guest
	function.Revision
}

var seatChanged = event.Define(depotEvents, "ledger.seat-changed", 1, event.Fact, "A seat has changed.", guest{"g1"})

// newHall makes a function that shows who has which seat.
func newHall(e function.Env) (*function.Function, error) {
	f := function.New("hall", e)
	seats := function.Collection[shownSeat](f, "seats")
	function.On(f, seatChanged, func(ctx context.Context, tx *function.Tx, g guest) error {
		id := tx.Event().Subject()
		known, _, err := seats.Find(ctx, tx, id)
		if err != nil || !known.Before(tx.Revision()) {
			return err
		}
		return seats.Put(ctx, tx, id, shownSeat{g, tx.Revision()})
	})
	return f, nil
}

type seatInput struct {
	ID   string `path:"id"`
	Body guest
}

// declareSeats declares seats, whose documents come and go.
func (l *ledger) declareSeats(f *function.Function) {
	seats := function.Collection[guest](f, "seats", store.Entity)
	visits := function.Collection[visit](f, "visits")
	function.Emits(f, seatChanged)
	function.Serve(f, changes(http.MethodPost, "/api/seats/{id}/taking"),
		func(ctx context.Context, tx *function.Tx, in *seatInput) (*struct{}, error) {
			_, taken, err := seats.Find(ctx, tx, in.ID)
			if err != nil {
				return nil, err
			}
			if taken {
				return nil, fault.New(fault.Invalid, "the seat is taken")
			}
			tx.Emit(seatChanged.New(in.ID, in.Body))
			if err := visits.Put(ctx, tx, in.Body.Name, visit{Seat: in.ID}); err != nil {
				return nil, err
			}
			return nil, seats.Put(ctx, tx, in.ID, in.Body)
		})
	function.Serve(f, changes(http.MethodPost, "/api/seats/{id}/leaving"),
		func(ctx context.Context, tx *function.Tx, in *seatInput) (*struct{}, error) {
			has, _, err := seats.Find(ctx, tx, in.ID)
			if err != nil || has != in.Body {
				return nil, err
			}
			l.sim.Sleep(time.Duration(l.rng.Int64N(int64(50 * time.Millisecond))))
			tx.Emit(seatChanged.New(in.ID, guest{}))
			if err := visits.Put(ctx, tx, in.Body.Name, visit{Seat: in.ID, Left: true}); err != nil {
				return nil, err
			}
			return nil, seats.Delete(ctx, tx, in.ID)
		})
}

func (l *ledger) declare(e function.Env) (*function.Function, error) {
	f := function.New("ledger", e)
	l.declareSeats(f)
	purses := function.Collection[purse](f, "purses", store.On("owner"))
	function.Serve(f, changes(http.MethodPut, "/api/purses/{id}"),
		func(ctx context.Context, tx *function.Tx, in *struct {
			ID   string `path:"id"`
			Body purse
		}) (*struct{}, error) {
			return nil, purses.Put(ctx, tx, in.ID, in.Body)
		})
	function.Serve(f, changes(http.MethodPost, "/api/deposits"),
		func(ctx context.Context, tx *function.Tx, in *struct{ Body deposit }) (*struct{}, error) {
			found, err := purses.Query(ctx, tx, store.Find{
				Where: []store.Filter{{Field: "owner", Op: store.Equal, Value: in.Body.Owner}},
			})
			if err != nil {
				return nil, err
			}
			if len(found.Items) != 1 {
				return nil, fault.New(fault.NotFound, "%s has %d purses", in.Body.Owner, len(found.Items))
			}
			a := found.Items[0]
			a.Value.Balance += in.Body.Amount
			return nil, purses.Put(ctx, tx, a.ID, a.Value)
		})
	return f, nil
}

func changes(method, path string) function.Operation {
	return function.Operation{Method: method, Path: path, Access: function.Only(auth.RoleAdmin)}
}
