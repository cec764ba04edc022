package function

import (
	"time"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
)

// After emits an event when it is due, and returns the timer's id. The timer is durable: the clock function keeps it.
// The event has its id from now on, so that it is handled once however often it is published. Its time is when it is
// due.
func (tx *Tx) After(due time.Time, d event.Draft) (timer string, err error) {
	e, err := tx.stamp(d)
	if err != nil {
		return "", err
	}
	if due.After(tx.now) {
		e.SetTime(due.UTC())
	}
	data, err := event.ToJSON(e)
	if err != nil {
		return "", fault.Wrap(err, fault.Internal, "encode the event of a timer")
	}
	command := event.ScheduleEvent{TimerID: e.ID(), Due: due.UTC(), Event: data}
	tx.Emit(event.ClockSchedule.New(e.ID(), command).Keyed(d.Key))
	return e.ID(), nil
}

// CancelTimer cancels a timer that was set with an event of this partition key. One that has fired is no error.
func (tx *Tx) CancelTimer(timer, key string) {
	tx.Emit(event.ClockCancel.New(timer, event.CancelTimer{TimerID: timer}).Keyed(key))
}
