package functiontest

import (
	"cmp"
	"maps"
	"slices"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
)

// Timer is a timer that the function has set and that is not yet due.
type Timer struct {
	ID    string
	Due   time.Time
	Event ce.Event // what the clock publishes when the timer is due
}

// timers stands in for the clock function: it holds what the function has scheduled and not cancelled.
type timers struct{ pending map[string]Timer }

// take carries out the commands to the clock among the events that the function has published.
func (s *timers) take(es []ce.Event) error {
	if s.pending == nil {
		s.pending = map[string]Timer{}
	}
	for _, e := range es {
		switch e.Type() {
		case event.ClockSchedule.Name():
			cmd, err := event.ClockSchedule.Decode(e)
			if err != nil {
				return err
			}
			due, err := event.FromJSON(cmd.Event)
			if err != nil {
				return err
			}
			s.pending[cmd.TimerID] = Timer{ID: cmd.TimerID, Due: cmd.Due, Event: due}
		case event.ClockCancel.Name():
			cmd, err := event.ClockCancel.Decode(e)
			if err != nil {
				return err
			}
			delete(s.pending, cmd.TimerID)
		}
	}
	return nil
}

// sorted returns the pending timers, the earliest first.
func (s *timers) sorted() []Timer {
	return slices.SortedFunc(maps.Values(s.pending), func(a, b Timer) int {
		return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.ID, b.ID))
	})
}

// Timers returns the timers that the function has set and that have neither gone off nor been cancelled, the earliest
// first.
func (h *Harness) Timers() []Timer {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.timers.sorted()
}

// Advance moves the clock by d. It stops at each timer that is due on the way, also at those that are set on the way,
// and delivers the timer's event if the function consumes its type, as the clock function and the broker would. It
// returns the events that were due, in this order. An event that the function does not accept fails the test, and its
// timer stays, as the broker would deliver the event again. To test such an attempt, hand the event of Timers to
// Receive instead.
func (h *Harness) Advance(d time.Duration) []ce.Event {
	h.T.Helper()
	end := h.Clock.Now().Add(d)
	var fired []ce.Event
	for {
		timer, ok := h.firstDue(end)
		if !ok {
			break
		}
		if wait := timer.Due.Sub(h.Clock.Now()); wait > 0 { // one that was set in the past is due now
			h.Clock.Advance(wait)
		}
		if h.consumes(timer.Event.Type()) {
			if r := h.Receive(timer.Event)[0]; !r.OK() {
				h.T.Fatalf("timer %s: %s: got status %d: %s", timer.ID, timer.Event.Type(), r.Status, r.Message)
			}
		}
		h.fired(timer)
		fired = append(fired, timer.Event)
	}
	h.Clock.Advance(end.Sub(h.Clock.Now()))
	return fired
}

func (h *Harness) consumes(eventType string) bool {
	types := h.I.Declaration().Consumes
	return slices.Contains(types, "*") || slices.Contains(types, eventType)
}

// firstDue returns the earliest timer that is due by end.
func (h *Harness) firstDue(end time.Time) (Timer, bool) {
	if all := h.Timers(); len(all) > 0 && !all[0].Due.After(end) {
		return all[0], true
	}
	return Timer{}, false
}

// fired removes a timer, unless its handler has set it anew.
func (h *Harness) fired(timer Timer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now, ok := h.timers.pending[timer.ID]; ok && now.Event.ID() == timer.Event.ID() {
		delete(h.timers.pending, timer.ID)
	}
}
