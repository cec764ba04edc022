package simulation

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/functions/clock"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/simulate"
)

// note is the data of the library's events.
type note struct {
	ID string `json:"id"`
}

var noteWritten = event.Define(depotEvents, "library.written", 1, event.Fact, "A note was written.", note{ID: "n1"})

// Library returns a system whose archive appends in several units of work at once, as many pods do, while replays read
// it. Every event is archived, in an order that the deliveries allow, and every replay is complete.
func Library(b Broken) simulate.System {
	return simulate.System{
		Settle: 20 * time.Minute,
		Begin:  func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario { return library(sim, r, b) },
	}
}

// archiving makes an archive that handles several events at once, each in a unit of its own.
func archiving(e function.Env) (*function.Function, error) {
	f, err := archive.New(e)
	if err == nil {
		function.Deliver(f, broker.Tuning{Concurrency: 4})
	}
	return f, err
}

func library(sim *simulate.Simulation, r *rand.Rand, b Broken) *simulate.Scenario {
	s := &run{sim: sim, arrivals: newArrivals()}
	sc := &simulate.Scenario{
		Handle: s.observe,
		Check: func(sim *simulate.Simulation) {
			log := s.archived(sim)
			s.checkArchive(sim, log)
			s.arrivals.check(sim, log)
			s.checkReplays(sim, log)
		},
	}
	for _, f := range []simulate.Function{
		{Name: "archive", New: archiving, Next: archiving, Env: env("30s")},
		{Name: "clock", New: clock.New, Next: clock.New, Env: env("30s")},
	} {
		if b.Change != nil {
			b.Change(&f)
		}
		sc.Functions = append(sc.Functions, f)
	}
	add := func(at time.Duration, do func(), format string, args ...any) {
		a := simulate.Action{At: at, What: fmt.Sprintf(format, args...), Do: func(*simulate.Simulation) { do() }}
		sc.Actions = append(sc.Actions, a)
	}
	at := func() time.Duration { return time.Duration(r.Int64N(int64(time.Minute))) }
	for n := range 3 + r.IntN(5) {
		when, size := at(), 5+r.IntN(40)
		for i := range size {
			id := fmt.Sprintf("n%d-%d", n, i%7)
			add(when+time.Duration(r.Int64N(int64(time.Second))), func() {
				sim.Publish(emitted(sim, n, noteWritten.New(id, note{ID: id}), i))
				sim.Count("notes", 1)
			}, "note %s is written", id)
		}
		if r.IntN(2) == 0 {
			id := fmt.Sprintf("replay-%d", n)
			add(when+time.Duration(r.Int64N(int64(time.Second))), func() {
				cmd := event.ReplayEvents{ReplayID: id, To: "reader", Types: []string{noteWritten.Name()}}
				sim.Publish(emitted(sim, n, event.ArchiveReplay.New(id, cmd), 1000))
				sim.Count("replays", 1)
			}, "%s is requested", id)
		}
	}
	return sc
}
