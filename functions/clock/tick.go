package clock

import (
	"context"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// most bounds what one unit of work publishes.
const most = 500

// sweep remembers when everyone was last told to sweep.
type sweep struct {
	At time.Time `json:"at"`
}

// tick publishes what is due by now, oldest first, and forgets it in the same transaction.
func (c *clock) tick(ctx context.Context, tx *function.Tx, now time.Time) error {
	if err := c.sweepIfDue(ctx, tx, now); err != nil {
		return err
	}
	due, err := c.timers.Query(ctx, tx, store.Find{
		Where: []store.Filter{{Field: "due", Op: store.LessOrEqual, Value: moment(now)}},
		Order: []store.Order{{Field: "due"}},
		Limit: most,
	})
	if err != nil || len(due.Items) == 0 {
		return err
	}
	ids := make([]string, len(due.Items))
	for i, item := range due.Items {
		ids[i] = item.ID
	}
	// What the query saw is not checked at the commit; what is read here is, so that a timer that was moved,
	// cancelled or taken by another tick meanwhile makes this one start again.
	present, err := c.timers.GetMany(ctx, tx, ids...)
	if err != nil {
		return err
	}
	for _, id := range ids {
		t, ok := present[id]
		if !ok || t.Due > moment(now) {
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

// sweepIfDue tells everyone to sweep when it is time. The first tick ever only begins to count.
func (c *clock) sweepIfDue(ctx context.Context, tx *function.Tx, now time.Time) error {
	last, known, err := c.sweeps.Find(ctx, tx, "last")
	// A time that is far ahead was written by a host whose clock was: nobody waits for it to come.
	if err != nil || known && now.Sub(last.At).Abs() < c.every {
		return err
	}
	if known {
		tx.Emit(event.ClockSwept.New("clock", event.SweptClock{At: now.UTC()}))
	}
	return c.sweeps.Put(ctx, tx, "last", sweep{At: now.UTC()})
}
