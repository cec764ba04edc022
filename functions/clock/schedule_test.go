package clock_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/functions/clock"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/store"
)

// deployment is the schedules of a function called reports, which the tests change.
type deployment struct {
	*functiontest.Harness
	schedules []manifest.Schedule
}

func deploy(t *testing.T, schedules ...manifest.Schedule) *deployment {
	t.Helper()
	d := &deployment{schedules: schedules}
	d.Harness = functiontest.New(t, clock.New, functiontest.Beside(func() manifest.System {
		reports := &manifest.Declaration{Function: manifest.Function{Name: "reports", Schedules: d.schedules}}
		return manifest.System{Functions: []*manifest.Declaration{reports}}
	}))
	return d
}

// redeploy starts a new version, in which the functions have other schedules.
func (d *deployment) redeploy(schedules ...manifest.Schedule) {
	d.schedules = schedules
	d.Restart()
}

// fired returns the runs that were published since the last call.
func (d *deployment) fired() (all []string) {
	d.T.Helper()
	for _, e := range d.Emitted() {
		if e.Type() != event.ClockFired.Name() {
			continue
		}
		run, err := event.ClockFired.Decode(e)
		if err != nil {
			d.T.Fatal(err)
		}
		if e.Subject() != run.Function+"/"+run.Schedule || e.Extensions()[event.Sequence] != nil {
			d.T.Errorf("got the subject %s, and extensions %v", e.Subject(), e.Extensions())
		}
		all = append(all, fmt.Sprint(run.Schedule, " ", run.At.Format("02 15:04"), " ", run.Missed))
	}
	return all
}

func (d *deployment) want(what string, runs ...string) {
	d.T.Helper()
	if got := d.fired(); !slices.Equal(got, runs) {
		d.T.Errorf("%s: got %q, want %q", what, got, runs)
	}
}

// pass lets time pass, with a tick every minute.
func (d *deployment) pass(for_ time.Duration) {
	d.T.Helper()
	for range for_ / time.Minute {
		d.Clock.Advance(time.Minute)
		d.Tick()
	}
}

func hourly(missed string, limit int) manifest.Schedule {
	return manifest.Schedule{Name: "hourly", Expression: "30 * * * *", Zone: "UTC", Missed: missed, Limit: limit}
}

// Each run is published once, also when two ticks come at once and after a restart; the clock begins at 12:00 on the
// 1st.
func TestScheduleFires(t *testing.T) {
	d := deploy(t, hourly("once", 0),
		manifest.Schedule{Name: "noon", Expression: "0 12 * * *", Zone: "Europe/Berlin", Missed: "once"})
	d.Tick()
	d.pass(29 * time.Minute)
	d.want("before the first run")
	d.pass(time.Minute)
	d.want("the first run", "hourly 01 12:30 0")
	d.Tick()
	d.Restart()
	d.Tick()
	d.want("again at the same time")
	d.pass(2 * time.Hour)
	d.want("two hours", "hourly 01 13:30 0", "hourly 01 14:30 0")
	d.pass(21*time.Hour - 30*time.Minute)
	if got := d.fired(); !slices.Contains(got, "noon 02 11:00 0") {
		t.Errorf("noon in Berlin, which is 11:00: got %q", got)
	}
}

// What happens to runs that are missed is the schedule's policy.
func TestMissedRuns(t *testing.T) {
	for name, c := range map[string]struct {
		s    manifest.Schedule
		late time.Duration // after the last run
		want []string
	}{
		"once":             {hourly("once", 0), 20 * time.Minute, []string{"hourly 01 17:30 4"}},
		"skip":             {hourly("skip", 0), 20 * time.Minute, nil},
		"skip, a bit late": {hourly("skip", 0), 2 * time.Minute, []string{"hourly 01 17:30 4"}},
		"all": {hourly("all", 10), 20 * time.Minute, []string{
			"hourly 01 13:30 0", "hourly 01 14:30 0", "hourly 01 15:30 0", "hourly 01 16:30 0", "hourly 01 17:30 0",
		}},
		"the last of all":   {hourly("all", 2), 20 * time.Minute, []string{"hourly 01 16:30 3", "hourly 01 17:30 0"}},
		"of an old version": {hourly("all", 0), 20 * time.Minute, []string{"hourly 01 17:30 4"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := deploy(t, c.s)
			d.Tick()
			d.pass(30 * time.Minute)
			d.want("in time", "hourly 01 12:30 0")
			d.Clock.Advance(5*time.Hour + c.late)
			d.Tick()
			d.want("after an outage of five hours", c.want...)
			d.pass(time.Hour - c.late)
			d.want("from then on", "hourly 01 18:30 0")
		})
	}
}

// A deploy changes, adds and removes schedules, and leaves nothing behind. What it does not change goes on.
func TestRedeploy(t *testing.T) {
	daily := manifest.Schedule{Name: "daily", Expression: "0 13 * * *", Zone: "UTC", Missed: "once"}
	d := deploy(t, hourly("once", 0), daily)
	d.Tick()
	d.Clock.Advance(45 * time.Minute) // the run of 12:30 is missed by a deploy
	quarter := hourly("once", 0)
	quarter.Missed = "all" // the policy changes nothing about when it is due
	quarter.Limit = 3
	daily.Expression = "50 12 * * *"
	d.redeploy(quarter, daily)
	d.Tick()
	d.want("the run that was due before the deploy", "hourly 01 12:30 0")
	d.pass(20 * time.Minute)
	d.want("the changed schedule", "daily 01 12:50 0")
	d.redeploy(daily)
	d.pass(23*time.Hour + 50*time.Minute)
	d.want("without the other one", "daily 02 12:50 0")
	d.redeploy()
	d.pass(48 * time.Hour)
	d.want("without any")
	db, err := d.Store(context.Background(), "clock", d.I.Declaration().Schema)
	if err != nil {
		t.Fatal(err)
	}
	left, _, err := db.Query(t.Context(), store.Query{Collection: "schedules", Limit: 10})
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// After a host's clock was far ahead for a while, runs are due again without waiting for that time.
func TestScheduleAfterAClockWasAhead(t *testing.T) {
	d := deploy(t, hourly("once", 0))
	d.Tick()
	if _, err := d.I.Tick(t.Context(), d.Clock.Now().AddDate(1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	d.fired()
	d.pass(35 * time.Minute)
	d.want("in time again", "hourly 01 12:30 0")
}

// After a host's clock was set back by some minutes, a run is not published again.
func TestScheduleAfterAClockWasSetBack(t *testing.T) {
	d := deploy(t, hourly("once", 0))
	d.Tick()
	d.pass(30 * time.Minute)
	d.want("in time", "hourly 01 12:30 0")
	d.Clock.Advance(-15 * time.Minute)
	d.pass(time.Hour)
	d.want("once more the same time")
	d.pass(15 * time.Minute)
	d.want("the next one", "hourly 01 13:30 0")
}

// Many schedules that are due at once are published portion by portion.
func TestManySchedules(t *testing.T) {
	var all []manifest.Schedule
	for n := range 40 {
		s := hourly("all", 100)
		s.Name = fmt.Sprintf("hourly-%02d", n)
		all = append(all, s)
	}
	d := deploy(t, all...)
	d.Tick()
	d.Clock.Advance(200 * time.Hour)
	more, err := d.I.Tick(t.Context(), d.Clock.Now())
	if n := len(d.fired()); !more || err != nil || n != 500 {
		t.Errorf("the first tick: %d runs, more %v, error %v", n, more, err)
	}
	d.Tick()
	if n := len(d.fired()); n != 3500 {
		t.Errorf("the rest: %d runs", n)
	}
}

// A clock that does not know what is deployed leaves the schedules as they are.
func TestUnknownSystem(t *testing.T) {
	d := deploy(t, hourly("once", 0))
	d.Tick()
	nothing := functiontest.New(t, clock.New, func(h *functiontest.Harness) { h.Store = d.Store })
	nothing.Tick()
	d.pass(30 * time.Minute)
	d.want("all the same", "hourly 01 12:30 0")
}

// A database that takes few documents at once takes over very many schedules in several ticks, and forgets them so.
func TestSchedulesInPortions(t *testing.T) {
	var many []manifest.Schedule
	for n := range 120 {
		many = append(many, manifest.Schedule{
			Name: fmt.Sprint("s", n), Expression: "0 * * * *", Zone: "UTC", Missed: "once",
		})
	}
	d := &deployment{schedules: many}
	d.Harness = functiontest.New(t, clock.New, functiontest.CommitLimit(100), functiontest.Beside(
		func() manifest.System {
			reports := &manifest.Declaration{Function: manifest.Function{Name: "reports", Schedules: d.schedules}}
			return manifest.System{Functions: []*manifest.Declaration{reports}}
		}))
	ticks := func() {
		t.Helper()
		for range 60 {
			d.Tick()
		}
	}
	ticks()
	d.Clock.Advance(time.Hour)
	ticks()
	if got := d.fired(); len(got) != len(many) {
		t.Errorf("%d runs, want one of each of %d schedules", len(got), len(many))
	}
	d.redeploy()
	ticks()
	d.Clock.Advance(time.Hour)
	ticks()
	d.want("without schedules")
}
