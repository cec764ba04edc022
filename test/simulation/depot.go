package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ebb-dev/ebb/functions/clock"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/simulate"
)

// parcel is the data of the depot's events and documents.
type parcel struct {
	ID string `json:"id"`
}

var (
	depotEvents   = event.NewNamespace("com.example", "https://example.com/schemas/")
	parcelArrived = event.Define(depotEvents, "depot.arrived", 1, event.Fact, "A parcel arrived.", parcel{ID: "p1"})
	parcelStored  = event.Define(depotEvents, "depot.stored", 1, event.Fact, "A parcel is stored.", parcel{ID: "p1"})
)

// Depot returns a system under load: parcels come in bursts that take longer than the timeout of a delivery, as batches
// do when handlers are slow. Every parcel is stored and counted once.
func Depot(handle func(string, broker.Handler) broker.Handler) simulate.System {
	return simulate.System{
		Settle: 20 * time.Minute,
		Begin: func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario {
			return depot(sim, r, handle)
		},
	}
}

func depot(
	sim *simulate.Simulation, r *rand.Rand, handle func(string, broker.Handler) broker.Handler,
) *simulate.Scenario {
	each := 250*time.Millisecond + time.Duration(r.Int64N(int64(150*time.Millisecond)))
	arrived := 0
	sc := &simulate.Scenario{
		Functions: []simulate.Function{
			{Name: "depot", New: storing(sim, each), Next: storing(sim, each), Env: env("30s")},
			{Name: "office", New: countingParcels, Next: countingParcels, Env: env("30s")},
			{Name: "clock", New: clock.New, Next: clock.New, Env: env("30s")},
		},
		Handle: handle,
		Check: func(sim *simulate.Simulation) {
			stored, counted := sim.Documents("depot", "parcels"), sim.Documents("office", "parcels")
			if len(stored) != arrived || len(counted) != arrived {
				sim.Violated("parcels are lost: %s",
					fmt.Sprintf("%d arrived, %d stored, %d counted", arrived, len(stored), len(counted)))
			}
			for _, d := range append(stored, counted...) {
				if d.Version != 1 {
					sim.Violated("a parcel is handled twice: %s", d.ID)
				}
			}
		},
	}
	for n := range 1 + r.IntN(3) {
		size, at := 50+r.IntN(150), time.Duration(r.Int64N(int64(time.Minute)))
		sc.Actions = append(sc.Actions, simulate.Action{
			At: at, What: fmt.Sprintf("%d parcels arrive", size),
			Do: func(*simulate.Simulation) {
				for i := range size {
					id := fmt.Sprintf("p%d-%d", n, i)
					sim.Publish(emitted(sim, n, parcelArrived.New(id, parcel{ID: id}), i))
				}
				arrived += size
				sim.Count("parcels", size)
			},
		})
	}
	return sc
}

// storing makes a function that takes its time to store a parcel.
func storing(sim *simulate.Simulation, each time.Duration) func(function.Env) (*function.Function, error) {
	return func(e function.Env) (*function.Function, error) {
		f := function.New("depot", e)
		parcels := function.Collection[parcel](f, "parcels")
		function.Emits(f, parcelStored)
		function.On(f, parcelArrived, func(ctx context.Context, tx *function.Tx, p parcel) error {
			sim.Sleep(each)
			tx.Emit(parcelStored.New(p.ID, p))
			return parcels.Put(ctx, tx, p.ID, p)
		})
		return f, nil
	}
}

func countingParcels(e function.Env) (*function.Function, error) {
	f := function.New("office", e)
	parcels := function.Collection[parcel](f, "parcels")
	function.On(f, parcelStored, func(ctx context.Context, tx *function.Tx, p parcel) error {
		return parcels.Put(ctx, tx, p.ID, p)
	})
	return f, nil
}
