package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/functions/clock"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
)

// note is the data of the library's events.
type note struct {
	ID string `json:"id"`
}

var noteWritten = event.Define(depotEvents, "library.written", 1, event.Fact, "A note was written.", note{ID: "n1"})

// Met is the figure of a library with the number of appends whose commit was refused because of another one.
const Met = "appends that met"

// Library returns a system whose archive appends in several units of work at once, as many pods do, while replays read
// it. Every event is archived, in an order that the deliveries allow, and every replay is complete. It counts the
// appends that lose a race (Met), be it one that a fault has made.
func Library(b Broken) simulate.System {
	return simulate.System{
		Settle: 20 * time.Minute,
		Begin:  func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario { return library(sim, r, b) },
	}
}

// meeting is a store of the archive that counts appends whose commit was refused.
type meeting struct {
	store.Driver
	sim *simulate.Simulation
}

// Commit implements store.Driver.
func (m meeting) Commit(ctx context.Context, b store.Batch) error {
	err := m.Driver.Commit(ctx, b)
	if fault.Is(err, fault.Conflict) && slices.ContainsFunc(b.Mutations, Appends) {
		m.sim.Count(Met, 1)
	}
	return err
}

// Pause forwards to the simulated store, which store.Update waits with.
func (m meeting) Pause(ctx context.Context, n int) {
	m.Driver.(interface{ Pause(context.Context, int) }).Pause(ctx, n)
}

// Appends reports whether a mutation adds an event to the archive.
func Appends(m store.Mutation) bool { return m.Collection == "log" && m.Data != nil }

// counted returns an archive whose appends are counted that lose a race.
func counted(
	sim *simulate.Simulation, make func(function.Env) (*function.Function, error),
) func(function.Env) (*function.Function, error) {
	return func(e function.Env) (*function.Function, error) {
		open := e.Store
		e.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, schema)
			return meeting{db, sim}, err
		}
		return make(e)
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
		{Name: "archive", New: counted(sim, archiving), Next: counted(sim, archiving), Env: env("30s")},
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
