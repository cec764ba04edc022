package clock

import (
	"context"
	"encoding/json"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

// timer is an event and the time when it is due. Its document has the timer's id.
type timer struct {
	Due   string          `json:"due"` // see sortableTime
	Event json.RawMessage `json:"event"`
}

// sortableTime writes a time as a text that sorts as the time does.
func sortableTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000000Z") }

// schedule sets a timer, or replaces the one that has the same id.
func (c *clock) schedule(ctx context.Context, tx *function.Tx, cmd event.ScheduleEvent) error {
	e, err := parse(cmd.Event)
	if err == nil {
		if why := event.CheckEvent(e); why != nil { // when due, it would block all other timers
			err = fault.Wrap(why, fault.Invalid, "the event of the timer cannot be published: %v", why)
		}
	}
	if err != nil || tx.Replayed() {
		return err // a timer of the past has fired, or was cancelled
	}
	return c.timers.Put(ctx, tx, cmd.TimerID, timer{Due: sortableTime(cmd.Due), Event: cmd.Event})
}

// cancel removes a timer. An unknown one has fired, or was cancelled before.
func (c *clock) cancel(ctx context.Context, tx *function.Tx, cmd event.CancelTimer) error {
	if tx.Replayed() {
		return nil
	}
	return c.timers.Delete(ctx, tx, cmd.TimerID)
}

func parse(data json.RawMessage) (ce.Event, error) {
	e, err := event.FromJSON(data)
	if err != nil {
		return e, fault.Wrap(err, fault.Invalid, "the event to publish is not a CloudEvent in structured JSON")
	}
	return e, nil
}
