package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/functions/archive"
	"github.com/ebb-dev/ebb/functions/clock"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
)

// departure is the data of the station's events.
type departure struct {
	ID   string `json:"id"`
	Note string `json:"note"`
}

var trainLeft = event.Define(depotEvents, "station.left", 1, event.Fact, "A train left.",
	departure{ID: "t1", Note: "x"})

// documentBytes is how large a document of the station's stores may be: less than the clock and the archive expect, and
// more than any single event.
const documentBytes = 16 << 10

// Station returns a system whose stores have a limit in bytes, and whose timers are large and due together. Every timer
// fires once, unless the clock has acknowledged its cancel before, and replays are complete.
func Station(b Broken) simulate.System {
	return simulate.System{
		Settle: 20 * time.Minute,
		Begin:  func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario { return station(sim, r, b) },
	}
}

// limitedStore refuses documents that are too large.
type limitedStore struct{ store.Driver }

// Commit implements store.Driver.
func (l limitedStore) Commit(ctx context.Context, b store.Batch) error {
	for _, m := range b.Mutations {
		if len(m.Data) > documentBytes {
			return fault.New(fault.TooLarge, "a document of %s has %d bytes", m.Collection, len(m.Data))
		}
	}
	return l.Driver.Commit(ctx, b)
}

// Pause forwards to the simulated store, which store.Update waits with.
func (l limitedStore) Pause(ctx context.Context, n int) {
	l.Driver.(interface{ Pause(context.Context, int) }).Pause(ctx, n)
}

func limiting(make func(function.Env) (*function.Function, error)) func(function.Env) (*function.Function, error) {
	return func(e function.Env) (*function.Function, error) {
		open := e.Store
		e.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, schema)
			return limitedStore{db}, err
		}
		return make(e)
	}
}

// timetable notes what was asked of the clock, and when it acknowledged the cancels.
type timetable struct {
	sim       *simulate.Simulation
	due       map[string]time.Time
	cancelled map[string]time.Time
}

func station(sim *simulate.Simulation, r *rand.Rand, b Broken) *simulate.Scenario {
	s := &run{sim: sim, arrivals: newArrivals()}
	times := &timetable{sim, map[string]time.Time{}, map[string]time.Time{}}
	sc := &simulate.Scenario{
		Handle: func(name string, next broker.Handler) broker.Handler {
			if b.Handle != nil {
				next = b.Handle(name, next)
			}
			return times.observe(name, s.observe(name, next))
		},
		Settled: func(sim *simulate.Simulation) bool { return len(sim.Documents("clock", "timers")) == 0 },
		Check: func(sim *simulate.Simulation) {
			s.checkReplays(sim, s.archived(sim))
			times.check()
		},
	}
	for _, f := range []simulate.Function{
		{Name: "archive", New: archive.New, Next: archive.New, Env: env("30s")},
		{Name: "clock", New: clock.New, Next: clock.New, Env: env("30s")},
	} {
		if b.Change != nil {
			b.Change(&f)
		}
		f.New, f.Next = limiting(f.New), limiting(f.Next)
		sc.Functions = append(sc.Functions, f)
	}
	add := func(at time.Duration, do func(), format string, args ...any) {
		a := simulate.Action{At: at, What: fmt.Sprintf(format, args...), Do: func(*simulate.Simulation) { do() }}
		sc.Actions = append(sc.Actions, a)
	}
	for n := range 1 + r.IntN(2) {
		at, size, bytes := time.Duration(r.Int64N(int64(time.Minute))), 10+r.IntN(25), 500+r.IntN(1500)
		due := 3*time.Minute + time.Duration(r.Int64N(int64(2*time.Minute)))
		for i := range size {
			id := fmt.Sprintf("t%d-%d", n, i)
			add(at, func() { times.schedule(id, n, due, strings.Repeat("x", bytes)) }, "train %s is scheduled", id)
			if r.IntN(4) == 0 {
				after := time.Duration(r.Int64N(int64(10 * time.Second)))
				add(at+after, func() {
					cancel := event.ClockCancel.New(id, event.CancelTimer{TimerID: times.timer(id, n)})
					sim.Publish(emitted(sim, n, cancel, 1000+i))
				}, "train %s is cancelled", id)
			}
		}
	}
	add(time.Duration(r.Int64N(int64(2*time.Minute))), func() {
		cmd := event.ReplayEvents{ReplayID: "replay", To: "reader"}
		sim.Publish(emitted(sim, 9, event.ArchiveReplay.New("replay", cmd), 1))
	}, "a replay is requested")
	return sc
}

// timer returns the id of a timer and of its event.
func (t *timetable) timer(id string, n int) string { return fmt.Sprintf("%s-%d-0", id, n) }

func (t *timetable) schedule(id string, n int, due time.Duration, note string) {
	e := emitted(t.sim, n, trainLeft.New(id, departure{ID: id, Note: note}), 0)
	data, err := event.ToJSON(e)
	if err != nil {
		t.sim.Violated("a timer cannot be encoded: %v", err)
		return
	}
	at := t.sim.Now().Add(due)
	t.due[e.ID()] = at
	cmd := event.ScheduleEvent{TimerID: e.ID(), Due: at, Event: data}
	t.sim.Count("trains", 1)
	t.sim.Publish(emitted(t.sim, n, event.ClockSchedule.New(id, cmd), 1))
}

// observe notes the cancels that the clock acknowledges.
func (t *timetable) observe(function string, next broker.Handler) broker.Handler {
	return func(ctx context.Context, batch []ce.Event) []broker.Result {
		results := next(ctx, batch)
		for i, e := range batch {
			if e.Type() == event.ClockCancel.Name() && function == "clock" && results[i].OK() {
				cmd, err := event.ClockCancel.Decode(e)
				if _, known := t.cancelled[cmd.TimerID]; err == nil && !known {
					t.cancelled[cmd.TimerID] = t.sim.Now()
				}
			}
		}
		return results
	}
}

// check checks that each timer fired unless it was cancelled, and none that was cancelled so long before it was due
// that no clock can be off by as much.
func (t *timetable) check() {
	fired := map[string]bool{}
	for _, e := range t.sim.Published() {
		if e.Type() == trainLeft.Name() && e.Extensions()[event.ReplayTo] == nil {
			fired[e.ID()] = true
		}
	}
	for id, due := range t.due {
		at, cancelled := t.cancelled[id]
		switch {
		case !cancelled && !fired[id]:
			t.sim.Violated("a timer did not fire: %s", id)
		case cancelled && fired[id] && at.Before(due.Add(-2*time.Minute)):
			t.sim.Violated("a timer fired that was cancelled before: %s", id)
		}
	}
}
