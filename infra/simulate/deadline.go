package simulate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/saga"
	"github.com/ebb-dev/ebb/infra/store"
)

// waits records the deadlines of a run, and which of them passed.
type waits struct {
	deadline time.Duration   // the longest timer that was set, or System.Deadline
	timers   map[string]bool // by the id of the timer's event; true: it went off
	fired    int
	held     int // events that a fault holds back
	sweeps   int // by the clock function
	other    int // other events
	sagas    bool
	expired  map[string]bool // each step whose deadline passed
	undone   map[string]bool // each step whose undo was sent
}

// maxDeadline returns the longest timer that counts as a deadline. A fault that outlasts it still leaves the system
// time to come to rest within Settle.
func (s System) maxDeadline() time.Duration { return s.Settle / 4 }

// observe records a sweep, or a timer that is set or goes off.
func (w *waits) observe(e *ce.Event, limit time.Duration) {
	switch e.Type() {
	case event.ClockSwept.Name():
		if e.Source() != simulationSource {
			w.sweeps++
		}
		return
	case event.ClockSchedule.Name():
		var timer struct {
			ID  string    `json:"timer_id"`
			Due time.Time `json:"due"`
		}
		if json.Unmarshal(e.Data(), &timer) != nil {
			break
		}
		if _, set := w.timers[timer.ID]; !set {
			w.timers[timer.ID] = false
		}
		if d := timer.Due.Sub(e.Time()); d <= limit && d > w.deadline {
			w.deadline = d
		}
	}
	w.other++
	if fired, set := w.timers[e.ID()]; set && !fired {
		w.timers[e.ID()] = true
		w.fired++
	}
}

// The marks of a saga.Progress in JSON: of each, of one with an undo, of one whose deadline passed.
var (
	progressMark = []byte(`"steps":[`)
	undoMark     = []byte(`"undoing_at"`)
	expiredMark  = []byte(` timed out"`)
	againMark    = []byte(`"again":`)
)

// committed records the expired and undone steps of the sagas in a commit. Each counts once, however often its progress
// is stored: a saga is identified by its function and the time at which its first step began.
func (w *waits) committed(function string, b store.Batch) {
	for _, m := range b.Mutations {
		if !bytes.Contains(m.Data, progressMark) {
			continue
		}
		relevant := bytes.Contains(m.Data, undoMark) || bytes.Contains(m.Data, expiredMark) ||
			bytes.Contains(m.Data, againMark)
		if w.sagas && !relevant {
			continue
		}
		for _, p := range saga.Find(m.Data) {
			w.sagas = true
			began := function + p.Steps[0].StartedAt.Format(time.RFC3339Nano)
			if step := p.Expired(); step != "" {
				w.expired[began+step] = true
			}
			if p.Again > 0 {
				w.expired[began+p.Step+fmt.Sprint(p.Again)] = true
			}
			for _, s := range p.Steps {
				if !s.UndoingAt.IsZero() {
					w.undone[began+s.Name] = true
				}
			}
		}
	}
}

// hold returns how long a fault holds an event back.
func (sim *Simulation) hold(f Fault) time.Duration {
	if f.Deadlines > 0 && sim.waits.deadline > 0 {
		return time.Duration(f.Deadlines * float64(sim.waits.deadline)).Round(time.Millisecond)
	}
	return f.For
}

// holdBack counts an event as held back for d. Meanwhile no delivery runs out of attempts: one that waits for the event
// would be dead-lettered because of the fault alone.
func (sim *Simulation) holdBack(d time.Duration) {
	sim.waits.held++
	sim.after(d, func() { sim.waits.held-- })
}

// quietRounds bounds how often an active system is watched once more.
const quietRounds = 10

// watch lets time pass until the system has emitted nothing during System.Rest, the longest deadline and two sweeps of
// the clock. Retries need no extra time, since a delivery that waits for an attempt counts as work. It reports whether
// the system came to rest each time.
func (sim *Simulation) watch() bool {
	sweeps := false
	for _, s := range sim.supervisors {
		sweeps = sweeps || s.sweeps
	}
	for range quietRounds {
		before, swept, began := sim.waits.other, sim.waits.sweeps, sim.now
		sim.runFor(max(sim.sys.Rest, sim.waits.deadline+2*sim.sys.Tick+time.Second))
		if limit := began + 4*sim.sys.Settle; sweeps && sim.waits.sweeps < swept+2 {
			sim.run(func() bool { return sim.waits.sweeps >= swept+2 || sim.now >= limit })
			if sim.waits.sweeps < swept+2 && !sim.over {
				sim.Violated("the clock does not sweep: not twice in %s, which is four times Settle", 4*sim.sys.Settle)
				return true
			}
		}
		if !sim.Rest(sim.sys.Settle) {
			return false
		}
		if sim.waits.other == before {
			return true
		}
	}
	return true
}
