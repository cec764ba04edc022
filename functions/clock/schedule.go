package clock

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/ebb-dev/ebb/infra/cron"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/store"
)

// recurring is a recurring schedule of a function and when its next run is due. It holds the whole declaration, so that
// it can be carried out by itself.
type recurring struct {
	Function string            `json:"function"`
	Schedule manifest.Schedule `json:"schedule"`
	Due      string            `json:"due"`            // see sortableTime
	Last     string            `json:"last,omitempty"` // the latest run that was published
}

// maxSchedules is the most schedules that one tick carries out.
const maxSchedules = 5

func scheduleID(function, name string) string { return function + "." + name }

// declared returns the schedules of all functions that are deployed with the clock, by the ids of their documents, and
// a text that differs when one of them does; "" when it is not known what is deployed.
func (c *clock) declared() (all map[string]recurring, fingerprint string) {
	system := c.f.Env().System()
	if len(system.Functions) == 0 {
		return nil, ""
	}
	all, list := map[string]recurring{}, []any{}
	for _, d := range system.Sorted() {
		for _, s := range d.Schedules {
			all[scheduleID(d.Name, s.Name)] = recurring{Function: d.Name, Schedule: s}
			list = append(list, d.Name, s)
		}
	}
	data, err := json.Marshal(list)
	if err != nil {
		return nil, "" // texts and numbers always marshal
	}
	sum := sha256.Sum256(data)
	return all, hex.EncodeToString(sum[:16])
}

// adopted records which schedules the clock has taken over from the manifests.
type adopted struct {
	Fingerprint string    `json:"fingerprint"`
	At          time.Time `json:"at"`
}

// adopt makes the stored schedules those that are declared, when those differ from what was taken over last, and from
// time to time after a host's clock was wrong. A schedule that stays as it was keeps when it is due. A new or changed
// one is due for the first time at its next run from now. Very many are taken over by several ticks.
func (c *clock) adopt(ctx context.Context, tx *function.Tx, now time.Time) error {
	want, fingerprint := c.declared()
	if fingerprint == "" {
		return nil
	}
	known, _, err := c.adopted.Find(ctx, tx, "schedules")
	if err != nil || known.Fingerprint == fingerprint && now.Sub(known.At).Abs() < c.settings.Get().Sweep {
		return err
	}
	stored, err := c.stored(ctx, tx)
	if err != nil {
		return err
	}
	all := maps.Clone(stored)
	maps.Copy(all, want)
	left := tx.StoreTx().Portion(maxAdopted)
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if left == 0 { // the next tick goes on
			tx.RequestTick()
			return nil
		}
		changed := true
		if s, declared := want[id]; declared {
			changed, err = c.renew(ctx, tx, id, stored[id], s, now)
		} else {
			err = c.schedules.Delete(ctx, tx, id)
		}
		if err != nil {
			return err
		}
		if changed {
			left--
		}
	}
	return c.adopted.Put(ctx, tx, "schedules", adopted{fingerprint, now.UTC()})
}

// maxAdopted is how many schedules one tick takes over, or removes, if the database takes as many at once.
const maxAdopted = 1000

// stored returns all stored schedules.
func (c *clock) stored(ctx context.Context, tx *function.Tx) (map[string]recurring, error) {
	all := map[string]recurring{}
	for cursor, more := "", true; more; {
		page, err := c.schedules.Query(ctx, tx, store.Find{Limit: store.MaxLimit, Cursor: cursor})
		if err != nil {
			return nil, err
		}
		cursor, more = page.Next, page.Next != ""
		for _, item := range page.Items {
			all[item.ID] = item.Value
		}
	}
	return all, nil
}

// renew stores a schedule that is new, has changed, or is due later than its next run is, and reports whether it did.
// One that this build cannot read, such as one in a time zone that is new to it, is left out, and no other waits for
// it.
func (c *clock) renew(
	ctx context.Context, tx *function.Tx, id string, before, s recurring, now time.Time,
) (changed bool, err error) {
	plan, err := planOf(s.Schedule)
	if err != nil {
		c.f.Env().Logger.ErrorContext(ctx, "a schedule cannot be read and has no runs", "schedule", id, "error", err)
		return false, nil
	}
	s.Due, s.Last = nextDue(plan, before.after(now)), before.Last
	same := before.Schedule.Expression == s.Schedule.Expression && before.Schedule.Zone == s.Schedule.Zone
	if same && before.Due <= s.Due {
		if s.Due = before.Due; before == s {
			return false, nil
		}
	}
	return true, c.schedules.Put(ctx, tx, id, s)
}

// maxSetBack is how far a host's clock may be set back without a run being published again. If it was wrong by more,
// the runs of that time are published: waiting for the clock to come back there would leave out real ones.
const maxSetBack = time.Hour

// after returns the time after which the next run is sought: now, or the latest run if the clock was set back since.
func (r recurring) after(now time.Time) time.Time {
	last, err := time.Parse(time.RFC3339Nano, r.Last)
	if err == nil && last.After(now) && last.Sub(now) < maxSetBack {
		return last
	}
	return now
}

func planOf(s manifest.Schedule) (cron.Plan, error) {
	plan, err := cron.Parse(s.Expression, s.Zone)
	if err != nil {
		return plan, fault.Wrap(err, fault.Internal, "schedule %s", s.Name)
	}
	return plan, nil
}

// nextDue returns when the first run after now is due; a plan without one is due in five years, when it is looked at
// again.
func nextDue(plan cron.Plan, now time.Time) string {
	next := plan.Next(now)
	if next.IsZero() {
		next = now.AddDate(5, 0, 0)
	}
	return sortableTime(next)
}

// fire publishes the runs of schedules that are due, and notes the next run of each in the same transaction. The commit
// fails when another tick has published a run before it; then this tick is run again.
func (c *clock) fire(ctx context.Context, tx *function.Tx, now time.Time) error {
	due, err := c.schedules.Query(ctx, tx, store.Find{
		Where: []store.Filter{{Field: "due", Op: store.LessOrEqual, Value: sortableTime(now)}},
		Order: []store.Order{{Field: "due"}}, Limit: maxSchedules,
	})
	if err != nil || len(due.Items) == 0 {
		return err
	}
	for _, item := range due.Items {
		if err := c.fireOne(ctx, tx, item.ID, item.Value, now); err != nil {
			return err
		}
	}
	if due.Next != "" {
		tx.RequestTick()
	}
	return nil
}

func (c *clock) fireOne(ctx context.Context, tx *function.Tx, id string, s recurring, now time.Time) error {
	plan, err := planOf(s.Schedule)
	from, wrong := time.Parse(time.RFC3339Nano, s.Due)
	if err = errors.Join(err, wrong); err != nil {
		c.f.Env().Logger.ErrorContext(ctx, "a schedule cannot be read; it is looked at again in an hour",
			"schedule", id, "error", err)
		s.Due = sortableTime(now.Add(problemPause))
		return c.schedules.Put(ctx, tx, id, s)
	}
	if plan.Next(from.Add(-time.Nanosecond)).Equal(from) { // otherwise it was only to be looked at again
		runs, missed := cron.Runs(s.Schedule, plan, from, now)
		for _, at := range runs {
			tx.Emit(event.ClockFired.New(s.Function+"/"+s.Schedule.Name, event.FiredSchedule{
				Function: s.Function, Schedule: s.Schedule.Name, At: at.UTC(), Missed: missed,
			}))
			missed, s.Last = 0, sortableTime(at)
		}
	}
	s.Due = nextDue(plan, now)
	return c.schedules.Put(ctx, tx, id, s)
}
