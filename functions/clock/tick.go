package clock

import (
	"context"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// maxEvents and maxBytes are the most that one unit of work publishes: its events become one document of the outbox,
// for which a store may have a limit. The first query is for firstQuery timers only, because they may be large.
const (
	maxEvents  = 500
	maxBytes   = 256 << 10
	firstQuery = 32
)

// sweep records when clock.swept was last emitted.
type sweep struct {
	At time.Time `json:"at"`
}

// tick publishes the runs of schedules and the events of timers that are due, oldest first, and notes that in the same
// transaction.
func (c *clock) tick(ctx context.Context, tx *function.Tx, now time.Time) error {
	if err := c.sweepIfDue(ctx, tx, now); err != nil {
		return err
	}
	if err := c.adopt(ctx, tx, now); err != nil {
		return err
	}
	if err := c.fire(ctx, tx, now); err != nil {
		return err
	}
	more, err := c.fireTimers(ctx, tx, now)
	if more {
		tx.RequestTick()
	}
	return err
}

// fireTimers publishes a portion of the timers that are due, and reports whether there are more. The commit fails when
// a timer is moved, cancelled or published by another tick before it; then this tick is run again.
func (c *clock) fireTimers(ctx context.Context, tx *function.Tx, now time.Time) (more bool, err error) {
	most, count, bytes, cursor := tx.StoreTx().Portion(maxEvents), 0, 0, ""
	for size := firstQuery; ; size *= 4 {
		due, err := c.timers.Query(ctx, tx, store.Find{
			Where: []store.Filter{{Field: "due", Op: store.LessOrEqual, Value: sortableTime(now)}},
			Order: []store.Order{{Field: "due"}}, Limit: min(size, most-count), Cursor: cursor,
		})
		if err != nil {
			return false, err
		}
		for _, item := range due.Items {
			if count > 0 && bytes+len(item.Value.Event) > maxBytes {
				return true, nil
			}
			if err := c.fireTimer(ctx, tx, item, now); err != nil {
				return false, err
			}
			count, bytes = count+1, bytes+len(item.Value.Event)
		}
		if cursor = due.Next; cursor == "" || count >= most {
			return cursor != "", nil
		}
	}
}

// problemPause is how long a timer or a schedule is left alone that cannot be published.
const problemPause = time.Hour

// fireTimer publishes the event of a timer. One that cannot be published, although it could when it was set, is set for
// an hour later, so that no other timer waits for it: another broker may take smaller events.
func (c *clock) fireTimer(ctx context.Context, tx *function.Tx, item store.Item[timer], now time.Time) error {
	e, err := parse(item.Value.Event)
	if err == nil {
		err = c.check(e, len(item.Value.Event))
	}
	if err == nil {
		tx.EmitRaw(e)
		return c.timers.Delete(ctx, tx, item.ID)
	}
	c.f.Env().Logger.ErrorContext(ctx, "the event of a timer cannot be published; it is tried again in an hour",
		"timer", item.ID, "error", err)
	t := item.Value
	t.Due, t.Problem = sortableTime(now.Add(problemPause)), err.Error()
	return c.timers.Put(ctx, tx, item.ID, t)
}

// sweepIfDue emits clock.swept when the interval has passed. The very first tick only stores the time.
func (c *clock) sweepIfDue(ctx context.Context, tx *function.Tx, now time.Time) error {
	last, known, err := c.sweeps.Find(ctx, tx, "last")
	// A stored time far in the future was written by a host with a wrong clock; it counts as passed.
	if err != nil || known && now.Sub(last.At).Abs() < c.settings.Get().Sweep {
		return err
	}
	if known {
		tx.Emit(event.ClockSwept.New("clock", event.SweptClock{At: now.UTC()}))
	}
	return c.sweeps.Put(ctx, tx, "last", sweep{At: now.UTC()})
}
