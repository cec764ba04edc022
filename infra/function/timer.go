package function

import (
	"context"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
)

// After emits an event when it is due, and returns the timer's id. The timer is durable: the clock function keeps it.
// The event has its id from now on, so that it is handled once however often it is published. Its time is when it is
// due.
func (tx *Tx) After(due time.Time, d event.Draft) (timer string, err error) {
	e, err := tx.begin(d)
	if err != nil {
		return "", err
	}
	if due.After(tx.now) {
		e.SetTime(due.UTC())
	}
	if tx.timers == nil {
		tx.timers = map[int]timed{}
	}
	tx.timers[len(tx.drafts)] = timed{due.UTC(), d, e}
	tx.Emit(event.ClockSchedule.New(e.ID(), event.ScheduleEvent{TimerID: e.ID(), Due: due.UTC()}).Keyed(d.Key))
	return e.ID(), nil
}

// timed is the event of a timer until the unit of work commits.
type timed struct {
	due   time.Time
	draft event.Draft
	event ce.Event
}

// schedule returns the command that sets a timer, with its complete event.
func (tx *Tx) schedule(ctx context.Context, command event.Draft, t timed) (event.Draft, error) {
	e, err := tx.complete(ctx, t.draft, t.event)
	if err != nil {
		return command, err
	}
	data, err := event.ToJSON(e)
	if err != nil {
		return command, fault.Wrap(err, fault.Internal, "encode the event of a timer")
	}
	command.Data = event.ScheduleEvent{TimerID: e.ID(), Due: t.due, Event: data}
	return command, nil
}

// CancelTimer cancels a timer that was set with an event of this partition key. One that has fired is no error.
func (tx *Tx) CancelTimer(timer, key string) {
	tx.Emit(event.ClockCancel.New(timer, event.CancelTimer{TimerID: timer}).Keyed(key))
}
