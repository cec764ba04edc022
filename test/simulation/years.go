package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
)

// months is how many the system is watched for after the weeks of faults: longer than the kit stores anything.
const months = 15

// reminder is a document that expires.
type reminder struct {
	Text  string    `json:"text"`
	Until time.Time `json:"until"`
}

type reminderInput struct {
	Body reminder
}

// Years returns a system that runs for weeks with little to do, and then for more than a year with next to nothing: a
// function that consumes events of all ages, one that consumes nothing and serves requests, and one whose requests are
// acts of staff. Everything that expires is gone in time, whatever wakes the functions.
func Years(change func(*simulate.Function)) simulate.System {
	return simulate.System{
		Horizon: 15 * 24 * time.Hour, Settle: time.Hour,
		Begin: func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario { return years(sim, r, change) },
	}
}

func years(sim *simulate.Simulation, r *rand.Rand, change func(*simulate.Function)) *simulate.Scenario {
	sc := &simulate.Scenario{Functions: []simulate.Function{
		{Name: "office", New: arriving, Next: arriving, Env: env("30s")},
		{Name: "desk", New: reminding, Next: reminding, Env: env("30s")},
		{Name: "counter", New: recording, Next: recording, Env: env("30s")},
	}}
	for i := range sc.Functions {
		if change != nil {
			change(&sc.Functions[i])
		}
	}
	var until time.Time // before which the system does not rest
	sc.Settled = func(sim *simulate.Simulation) bool { return !sim.Now().Before(until) }
	pass := func(d time.Duration) {
		until = sim.Now().Add(d)
		sim.After(d, func() {})
		sim.Rest(d + time.Hour)
	}
	arrived, asked := 0, 0
	arrive := func() {
		id := fmt.Sprint("p", arrived)
		e := emitted(sim, 1, parcelArrived.New(id, parcel{ID: id}), arrived)
		switch c := e.Context.(*ce.EventContextV1); arrived % 4 {
		case 1: // from a sender that gives none
			c.Time = nil
		case 2: // a trickle of old ones
			e.SetTime(sim.Now().AddDate(0, 0, -10))
		case 3: // from a sender whose clock is wrong
			e.SetTime(sim.Now().AddDate(1, 0, 0))
		}
		arrived++
		sim.Publish(e)
	}
	ask := func() {
		asked++
		for _, name := range []string{"desk", "counter"} {
			sim.Send(simulate.Request{
				Function: name, Method: http.MethodPost, Path: "/api/reminders", Token: token("admin"),
				Key: fmt.Sprint("reminder-", asked), Body: reminder{Text: fmt.Sprint(asked), Until: sim.Now().Add(30 * time.Hour)},
			}, func(a simulate.Response) {
				if a.Status != http.StatusNoContent {
					sim.Violated("a reminder is answered %d", a.Status)
				}
			})
		}
	}
	swept := 0
	sweep := func() { // as the clock does, far more often
		swept++
		sim.Publish(emitted(sim, 2, event.ClockSwept.New("clock", event.SweptClock{At: sim.Now()}), swept))
	}
	for day := range 15 {
		at := time.Duration(day)*24*time.Hour + time.Duration(r.Int64N(int64(23*time.Hour)))
		parcels, requests := 40+r.IntN(60), 10+r.IntN(30)
		sc.Actions = append(sc.Actions, simulate.Action{
			At: at, What: fmt.Sprintf("%d parcels and %d requests on day %d", parcels, requests, day),
			Do: func(*simulate.Simulation) {
				for n := range max(parcels, requests) {
					sim.After(time.Duration(n)*time.Minute, func() {
						if n < parcels {
							arrive()
						}
						if n < requests {
							ask()
						}
					})
				}
				sim.Count("parcels", parcels)
			},
		})
	}
	sc.Check = func(sim *simulate.Simulation) {
		few := func(n int) {
			for range n {
				arrive()
				ask()
				pass(time.Minute)
			}
		}
		check := func() {
			few(6) // whatever has expired meanwhile is removed by these
			sim.CheckExpiry("office", "desk", "counter")
		}
		check()
		for range months {
			pass(30 * 24 * time.Hour)
			sweep()
			few(3)
		}
		check()
		if n := len(sim.Documents("office", "parcels")); n != arrived {
			sim.Violated("parcels are lost or handled twice: %s", fmt.Sprintf("%d arrived, %d are stored", arrived, n))
		}
	}
	return sc
}

func arriving(e function.Env) (*function.Function, error) {
	f := function.New("office", e)
	parcels := function.Collection[parcel](f, "parcels")
	function.On(f, parcelArrived, func(ctx context.Context, tx *function.Tx, p parcel) error {
		return parcels.Create(ctx, tx, p.ID, p)
	})
	return f, nil
}

func reminding(e function.Env) (*function.Function, error) {
	return takingReminders("desk", e, function.Operation{Method: http.MethodPost, Path: "/api/reminders"})
}

func recording(e function.Env) (*function.Function, error) {
	return takingReminders("counter", e, changes(http.MethodPost, "/api/reminders"))
}

func takingReminders(name string, e function.Env, op function.Operation) (*function.Function, error) {
	f := function.New(name, e)
	reminders := function.Collection[reminder](f, "reminders", store.Expire("until"))
	op.Status = http.StatusNoContent
	function.Serve(f, op, func(ctx context.Context, tx *function.Tx, in *reminderInput) (*struct{}, error) {
		return nil, reminders.Put(ctx, tx, tx.NewID(), in.Body)
	})
	return f, nil
}
