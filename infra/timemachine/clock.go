package timemachine

import (
	"context"
	"slices"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// isClock reports whether a function keeps the timers of the product.
func isClock(d *manifest.Declaration) bool {
	return d.Ticks && slices.Contains(d.Consumes, event.ClockSchedule.Name())
}

// clock declares a double of the function that keeps timers. It publishes their events when they are due. The real one
// does it at a tick of its host.
func (w *world) clock(name string, env function.Env) *function.Function {
	f := function.New(name, env)
	function.On(f, event.ClockSchedule, func(_ context.Context, tx *function.Tx, timer event.ScheduleEvent) error {
		e, err := event.FromJSON(timer.Event)
		if err != nil {
			return err
		}
		if tx.Replayed() || w.timers[timer.TimerID].Equal(timer.Due) {
			return nil
		}
		w.timers[timer.TimerID], w.fired[identity(e)] = timer.Due, true
		w.sim.After(w.lateness(e, timer.Due), func() {
			if w.timers[timer.TimerID].Equal(timer.Due) {
				delete(w.timers, timer.TimerID)
				w.sim.Publish(e)
			}
		})
		return nil
	})
	function.On(f, event.ClockCancel, func(_ context.Context, _ *function.Tx, timer event.CancelTimer) error {
		delete(w.timers, timer.TimerID)
		return nil
	})
	return f
}

// tick is the longest time between two ticks of a host. A timer that had not gone off in the past goes off at least so
// much later than it is due.
const tick = time.Minute

// pastTimer is a timer of the past.
type pastTimer struct {
	fired     bool
	cancelled time.Time // zero: it was not
}

// learnTimers notes which timers were set, and what became of them.
func (w *world) learnTimers() {
	w.timer = scheduledBy(w.events)
	cancelled := map[string]time.Time{}
	for _, e := range w.events {
		if e.Type() == event.ClockCancel.Name() {
			cancelled[e.Subject()] = e.Time()
		}
	}
	for _, e := range w.events {
		if inner, ok := scheduled(e); ok {
			key := inner.Source() + " " + inner.Type() + " " + inner.Subject()
			w.past[key] = append(w.past[key], pastTimer{w.byID[inner.ID()], cancelled[inner.ID()]})
		}
	}
}

// lateness returns how long after now a timer goes off that is due at a time. One that had been cancelled before a tick
// of the host came, or while the clock was away, must not go off before it is cancelled now.
func (w *world) lateness(e ce.Event, due time.Time) time.Duration {
	w.update(w.sim.Published())
	now := w.sim.Now()
	key := e.Source() + " " + e.Type() + " " + w.names.original(e.Subject())
	set := w.past[key]
	if len(set) == 0 { // the past has not set it
		return due.Sub(now)
	}
	w.past[key] = set[1:]
	if set[0].fired {
		return due.Sub(now)
	}
	late := due.Add(tick)
	if end := set[0].cancelled.Add(tick); end.After(late) {
		late = end
	}
	return late.Sub(now)
}

// wakeUp returns the event that every function starts with.
func wakeUp(at time.Time) ce.Event {
	e := ce.New()
	e.SetID("timemachine")
	e.SetSource("/timemachine")
	e.SetType(event.ClockSwept.Name())
	e.SetTime(at)
	_ = e.SetData(event.ContentType, event.SweptClock{At: at})
	return e
}
