package clock

import (
	"context"
	"encoding/json"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

// timer is an event and the time when it is due. Its document has the timer's id.
type timer struct {
	Due     string          `json:"due"` // see sortableTime
	Event   json.RawMessage `json:"event"`
	Problem string          `json:"problem,omitempty"` // why it was not published when it was due
}

// sortableTime writes a time as a text that sorts as the time does.
func sortableTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000000Z") }

// cancelled remembers a cancel that came before its schedule. Its document has the timer's id.
type cancelled struct {
	At    time.Time `json:"at,omitzero"`    // of the command
	Until time.Time `json:"until,omitzero"` // the cancel is forgotten then
}

// cancelRetention is how long a cancel waits for its schedule: longer than any broker retries, as in the inbox.
const cancelRetention = 72 * time.Hour

// schedule sets a timer, or replaces the one that has the same id.
func (c *clock) schedule(ctx context.Context, tx *function.Tx, cmd event.ScheduleEvent) error {
	e, err := parse(cmd.Event)
	if err == nil {
		err = c.check(e, len(cmd.Event))
	}
	if err != nil || tx.Replayed() {
		return err // a timer of the past has fired, or was cancelled
	}
	gone, overtaken, err := c.cancelled.Find(ctx, tx, cmd.TimerID)
	if err != nil {
		return err
	}
	// A timer whose id is that of its event is set once, so its cancel comes after it, whatever the clocks of the senders
	// are. Another id may be used again after a cancel.
	if overtaken && (cmd.TimerID == e.ID() || !tx.Event().Time().After(gone.At)) {
		return nil
	}
	return c.timers.Put(ctx, tx, cmd.TimerID, timer{Due: sortableTime(cmd.Due), Event: cmd.Event})
}

// check refuses an event of the size in bytes that could not be published.
func (c *clock) check(e ce.Event, size int) error {
	if err := event.CheckEvent(e); err != nil {
		return fault.Wrap(err, fault.Invalid, "the event of the timer cannot be published: %v", err)
	}
	const margin = 1 << 10 // the kit and the broker count a few attributes more
	limited, ok := c.f.Env().Publisher.(broker.Limiter)
	if ok && size+margin > limited.MaxEvent() {
		return fault.New(fault.Invalid, "the event of the timer has %d bytes, and the broker takes about %d at most",
			size, limited.MaxEvent())
	}
	return nil
}

// cancel removes a timer. An unknown one has fired, or was cancelled before, or its schedule comes later: the cancel is
// remembered for that.
func (c *clock) cancel(ctx context.Context, tx *function.Tx, cmd event.CancelTimer) error {
	if tx.Replayed() {
		return nil
	}
	_, known, err := c.timers.Find(ctx, tx, cmd.TimerID)
	switch {
	case err != nil:
		return err
	case known:
		return c.timers.Delete(ctx, tx, cmd.TimerID)
	}
	early := cancelled{At: tx.Event().Time().UTC(), Until: tx.Now().Add(cancelRetention)}
	return c.cancelled.Put(ctx, tx, cmd.TimerID, early)
}

func parse(data json.RawMessage) (ce.Event, error) {
	e, err := event.FromJSON(data)
	if err != nil {
		return e, fault.Wrap(err, fault.Invalid, "the event to publish is not a CloudEvent in structured JSON")
	}
	return e, nil
}
