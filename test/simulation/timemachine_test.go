package simulation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/timemachine"
)

// pastOf returns all events of a run of the shop without faults.
func pastOf(t *testing.T, seed uint64) (past []ce.Event) {
	t.Helper()
	sys := Shop(Broken{})
	sys.MaxFaults = -1
	begin := sys.Begin
	sys.Begin = func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario {
		s := begin(sim, r)
		check := s.Check
		s.Check = func(sim *simulate.Simulation) {
			past = slices.Clone(sim.Published())
			check(sim)
		}
		return s
	}
	if r := simulate.Run(sys, seed); !r.OK() {
		t.Fatal(r)
	}
	return past
}

// Every order of a simulated shop, with cancellations, slow and declined cards and orders at the same time, runs again
// as it had run.
func TestPastOrders(t *testing.T) {
	orders := 0
	for seed := uint64(1); seed <= 2; seed++ {
		past := pastOf(t, seed)
		for _, e := range past {
			if e.Type() != events.OrderPlaced.Name() {
				continue
			}
			orders++
			rec, err := timemachine.Select(past, timemachine.Selection{About: e.Subject()})
			if err != nil {
				t.Fatal(err)
			}
			r, err := timemachine.Run(t.Context(), functions.System(), rec, timemachine.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if !r.Same {
				t.Errorf("seed %d: %s", seed, differs(r))
			}
		}
	}
	if orders < 40 {
		t.Errorf("only %d orders", orders)
	}
}

// differs tells what differs in a report.
func differs(r *timemachine.Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: problems %q, notes %q\n", r.About, r.Problems, r.Notes)
	for _, in := range r.Inputs {
		fmt.Fprintf(&b, "  input %s %s %d %s\n", in.At.Format("15:04:05.000"), in.What, in.Status, in.Answer)
	}
	for _, e := range r.Events {
		fmt.Fprintf(&b, "  %-9s %s %s %s %v\n", e.Change, e.Time.Format("15:04:05.000"), e.Type, e.Subject, e.Fields)
	}
	for _, s := range r.State {
		if s.Change != timemachine.Same {
			fmt.Fprintf(&b, "  %-9s %s %s %v\n", s.Change, s.Function, s.Entity, s.Fields)
		}
	}
	return b.String()
}
