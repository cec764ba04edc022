package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
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
			l := &ledger{sim: sim}
			return l.scenario(r, b)
		},
	}
}

// ledger is the state of one run.
type ledger struct {
	sim       *simulate.Simulation
	deposited int64
	sent      int
}

func (l *ledger) scenario(r *rand.Rand, b Broken) *simulate.Scenario {
	made := simulate.Function{Name: "ledger", New: newLedger, Next: newLedger, Env: env("30s")}
	if b.Change != nil {
		b.Change(&made)
	}
	sc := &simulate.Scenario{
		Functions: []simulate.Function{made}, Handle: b.Handle, Serve: b.Serve,
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

func (l *ledger) check(sim *simulate.Simulation) {
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

func newLedger(e function.Env) (*function.Function, error) {
	f := function.New("ledger", e)
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
