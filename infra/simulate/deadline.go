package simulate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/saga"
	"github.com/ebb-dev/ebb/infra/store"
)

// waits records how long functions wait for one another, and what came of their waiting.
type waits struct {
	deadline time.Duration   // the longest timer that was set, or System.Deadline
	timers   map[string]bool // by the id of the timer's event; true: it went off
	fired    int
	held     int // events that a fault keeps back
	sweeps   int // by the clock of the system
	other    int // events that are not sweeps
	sagas    bool
	expired  map[string]bool // each step whose deadline passed
	undone   map[string]bool // each step whose undo was sent
}

// maxDeadline returns the longest timer that counts as a deadline: faults that outlast it still leave the system
// time to come to rest within Settle.
func (s System) maxDeadline() time.Duration { return s.Settle / 4 }

// observe records what an event tells about timers and sweeps.
func (w *waits) observe(e *event.Event, max time.Duration) {
	switch e.Type() {
	case events.ClockSwept.Name():
		if e.Source() != simulationSource {
			w.sweeps++
		}
		return
	case events.ClockSchedule.Name():
		var timer struct {
			ID  string    `json:"timer_id"`
			Due time.Time `json:"due"`
		}
		if json.Unmarshal(e.Data(), &timer) != nil {
			break
		}
		w.timers[timer.ID] = w.timers[timer.ID]
		if d := timer.Due.Sub(e.Time()); d <= max && d > w.deadline {
			w.deadline = d
		}
	}
	w.other++
	if fired, set := w.timers[e.ID()]; set && !fired {
		w.timers[e.ID()] = true
		w.fired++
	}
}

// Marks in the JSON of a saga.Progress: that it is one, and that a step expired or an undo was sent.
var (
	progressMark = []byte(`"steps":[`)
	undoMark     = []byte(`"undoing_at"`)
	expiredMark  = []byte(` timed out"`)
	againMark    = []byte(`"again":`)
)

// committed records what a function's commit tells about its sagas. Each step counts once, however often its progress
// is stored: a saga is known by the function and the time its first step began.
func (w *waits) committed(function string, b store.Batch) {
	for _, m := range b.Mutations {
		if !bytes.Contains(m.Data, progressMark) {
			continue
		}
		telling := bytes.Contains(m.Data, undoMark) || bytes.Contains(m.Data, expiredMark) || bytes.Contains(m.Data, againMark)
		if w.sagas && !telling {
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

// hold returns how long a fault keeps an event back.
func (w *World) hold(f Fault) time.Duration {
	if f.Deadlines > 0 && w.waits.deadline > 0 {
		return time.Duration(f.Deadlines * float64(w.waits.deadline)).Round(time.Millisecond)
	}
	return f.For
}

// keepBack counts an event as kept back for d. Meanwhile nothing runs out of attempts: what waits for that event would
// otherwise become a dead letter that only an operator could mend, which is no finding.
func (w *World) keepBack(d time.Duration) {
	w.waits.held++
	w.after(d, func() { w.waits.held-- })
}

// quietRounds bounds how often a system that still does something is watched once more.
const quietRounds = 10

// watch lets time pass until the system has done nothing for as long as anything in it may wait: the longest deadline, two
// sweeps of the clock and the least that System.Rest asks for. Retries need no waiting, for an event that waits for
// its next attempt is under way. It reports whether the system came to rest each time.
func (w *World) watch() bool {
	sweeps := false
	for _, s := range w.slots {
		sweeps = sweeps || s.sweeps
	}
	for range quietRounds {
		before, swept, began := w.waits.other, w.waits.sweeps, w.now
		w.runFor(max(w.sys.Rest, w.waits.deadline+2*w.sys.Tick+time.Second))
		if limit := began + 4*w.sys.Settle; sweeps && w.waits.sweeps < swept+2 {
			w.run(func() bool { return w.waits.sweeps >= swept+2 || w.now >= limit })
			if w.waits.sweeps < swept+2 && !w.over {
				w.Violated("the clock does not sweep: not twice in %s, which is four times Settle", 4*w.sys.Settle)
				return true
			}
		}
		if !w.Rest(w.sys.Settle) {
			return false
		}
		if w.waits.other == before {
			return true
		}
	}
	return true
}
