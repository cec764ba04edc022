package clock

import (
	"context"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// maxEvents is the most events that one unit of work publishes.
const maxEvents = 500

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
	due, err := c.timers.Query(ctx, tx, store.Find{
		Where: []store.Filter{{Field: "due", Op: store.LessOrEqual, Value: sortableTime(now)}},
		Order: []store.Order{{Field: "due"}},
		Limit: maxEvents,
	})
	if err != nil || len(due.Items) == 0 {
		return err
	}
	ids := make([]string, len(due.Items))
	for i, item := range due.Items {
		ids[i] = item.ID
	}
	// The commit checks documents read by key, and not the result of a query. So the timers are read again by key: when
	// one is moved, cancelled or published by another tick before the commit, this tick is run again.
	present, err := c.timers.GetMany(ctx, tx, ids...)
	if err != nil {
		return err
	}
	for _, id := range ids {
		t, ok := present[id]
		if !ok || t.Due > sortableTime(now) {
			continue
		}
		e, err := parse(t.Event)
		if err != nil {
			return err
		}
		tx.EmitRaw(e)
		if err := c.timers.Delete(ctx, tx, id); err != nil {
			return err
		}
	}
	if due.Next != "" {
		tx.RequestTick()
	}
	return nil
}

// sweepIfDue emits clock.swept when the interval has passed. The very first tick only stores the time.
func (c *clock) sweepIfDue(ctx context.Context, tx *function.Tx, now time.Time) error {
	last, known, err := c.sweeps.Find(ctx, tx, "last")
	// A stored time far in the future was written by a host with a wrong clock; it counts as passed.
	if err != nil || known && now.Sub(last.At).Abs() < c.every {
		return err
	}
	if known {
		tx.Emit(event.ClockSwept.New("clock", event.SweptClock{At: now.UTC()}))
	}
	return c.sweeps.Put(ctx, tx, "last", sweep{At: now.UTC()})
}
