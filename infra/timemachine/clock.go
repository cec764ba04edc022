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
		w.sim.After(timer.Due.Sub(w.sim.Now())+w.lateness(e), func() {
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

// tick is how late a timer may go off that had not gone off in the past: the longest time between two ticks of a host.
const tick = time.Minute

// learnTimers notes which timers were set, and which of them went off.
func (w *world) learnTimers() {
	w.timer = scheduledBy(w.events)
	for _, e := range w.events {
		if inner, ok := scheduled(e); ok {
			key := inner.Source() + " " + inner.Type() + " " + inner.Subject()
			w.fires[key] = append(w.fires[key], w.byID[inner.ID()])
		}
	}
}

// lateness returns how late the event of a timer is published. One that had been cancelled before a tick of the host
// came must not go off now.
func (w *world) lateness(e ce.Event) time.Duration {
	w.update(w.sim.Published())
	key := e.Source() + " " + e.Type() + " " + word.ReplaceAllStringFunc(e.Subject(), w.names.back)
	set := w.fires[key]
	if len(set) == 0 {
		return 0 // the past has not set it
	}
	w.fires[key] = set[1:]
	if set[0] {
		return 0
	}
	return tick
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
