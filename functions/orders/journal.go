package orders

import (
	"time"

	"github.com/ebb-dev/ebb/infra/saga"
)

// orderEvent is one event of an order's journal. The members of the saga's instance are those after the event. Before
// the kit kept sagas an event had only those of them that it changed, and no id.
type orderEvent struct {
	What   eventKind `json:"what"`
	At     time.Time `json:"at"`
	Placed *order    `json:"placed,omitempty"` // the order as it was placed
	Event  string    `json:"event,omitempty"`  // the type of the answer
	By     string    `json:"by,omitempty"`     // who cancelled it, or mended its saga
	*saga.Instance
}

// eventKind says what happened to an order.
type eventKind string

const (
	placed    eventKind = "placed"
	answered  eventKind = "heard"     // the saga received an answer that it waited for
	expired   eventKind = "expired"   // the deadline of a step passed, or the timer was set again
	cancelled eventKind = "cancelled" // the customer or an admin cancelled
	operated  eventKind = "operated"  // an operator mended the saga
	ended     eventKind = "ended"
	timerSet  eventKind = "rearmed" // only in old events: the timer was set again
)

var kinds = map[saga.Happening]eventKind{
	saga.Started: placed, saga.Answered: answered, saga.Expired: expired, saga.Cancelled: cancelled,
	saga.Operated: operated,
}

// entries returns the events of a change of an order.
func entries(c saga.Change[order]) []orderEvent {
	e := orderEvent{What: kinds[c.What], At: c.At, Event: c.Event}
	if c.What == saga.Started {
		e.Placed, e.Event = &c.State, ""
	} else {
		e.By, e.Instance = c.By, &c.State.Instance
	}
	if c.Ended {
		return []orderEvent{e, {What: ended, At: c.At}}
	}
	return []orderEvent{e}
}

// foldRevision numbers fold; see journal.Revision.
const foldRevision = 1

// fold returns the order after one more event.
func fold(o order, e orderEvent) order {
	switch {
	case e.What == placed:
		o = *e.Placed
	case e.Instance != nil && e.Instance.ID != "":
		o.Instance = *e.Instance
	default:
		o = foldOld(o, e)
	}
	o.Status = statusOf(o.Saga.Status)
	if !o.needsToken() {
		o.Token = ""
	}
	return o
}

// foldOld folds an event of the time before the kit kept sagas, and the end of an order.
func foldOld(o order, e orderEvent) order {
	switch e.What {
	case timerSet:
		o.Timer = e.Timer
	case ended:
		o.EndedAt = e.At
		o.Timer = ""
	}
	if e.Instance != nil && len(e.Saga.Steps) > 0 {
		if o.Saga.Status == saga.Running && e.Saga.Status != saga.Running {
			o.Code = e.Code // of the event that began the undoing
		}
		o.Saga = e.Saga
	}
	return o
}
