package simulate_test

import (
	"math/rand/v2"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/simulate/internal/events"
)

// A run begins at its epoch and with the documents that its setup has put. A delivery that is held comes when it is
// released, and those of its partition key behind it come after it.
func TestHold(t *testing.T) {
	epoch := time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)
	released := epoch.Add(time.Hour)
	var order []string
	var came time.Time
	r := simulate.Run(simulate.System{MaxFaults: -1, Epoch: epoch, Begin: func(
		sim *simulate.Simulation, _ *rand.Rand,
	) *simulate.Scenario {
		if !sim.Now().Equal(epoch) {
			t.Errorf("the run begins at %s", sim.Now())
		}
		confirmed := func(id string, amount int64) ce.Event {
			return emitted(sim, id, events.OrderConfirmed.New("o", events.ConfirmedOrder{
				OrderID: id, CustomerID: "ada", Total: events.Money{Amount: amount, Currency: "EUR"}, ConfirmedAt: sim.Now(),
			}), int(amount))
		}
		return &simulate.Scenario{
			Functions: []simulate.Function{{Name: "loyalty", New: loyalty}},
			Setup: func(sim *simulate.Simulation) {
				if err := sim.Put("loyalty", "accounts", "ada", 7, []byte(`{"points":100}`)); err != nil {
					t.Error(err)
				}
				for _, unknown := range [][2]string{{"nobody", "accounts"}, {"loyalty", "nothing"}} {
					if sim.Put(unknown[0], unknown[1], "ada", 1, []byte(`{}`)) == nil {
						t.Errorf("a document of %q is put", unknown)
					}
				}
			},
			Hold: func(function string, e ce.Event) time.Duration {
				if e.ID() == "first" && sim.Now().Before(released) {
					return min(released.Sub(sim.Now()), 7*time.Minute)
				}
				order, came = append(order, function+" "+e.ID()), sim.Now()
				return 0
			},
			Actions: []simulate.Action{{Do: func(sim *simulate.Simulation) {
				sim.Publish(confirmed("first", 1), confirmed("second", 2))
			}}},
			Check: func(sim *simulate.Simulation) {
				if d := sim.Documents("loyalty", "accounts"); len(d) != 1 || string(d[0].Data) != `{"points":103}` {
					t.Errorf("the documents are %v", d)
				}
			},
		}
	}}, 1)
	if !r.OK() || len(order) < 2 || order[0] != "loyalty first" || order[len(order)-1] != "loyalty second" ||
		came.Before(released) {
		t.Errorf("got %q at %s: %s", order, came, r)
	}
}
