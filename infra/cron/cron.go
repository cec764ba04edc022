// Package cron gives a function recurring schedules: what it does every night, or every Monday at nine in Berlin.
//
//	cron.On(f, cron.Schedule{
//		Name: "nightly-report", Expression: "0 3 * * *", Zone: "Europe/Berlin",
//		Do: func(ctx context.Context, tx *function.Tx, run cron.Run) error { … },
//	})
//
// A schedule is a part of the function's manifest. The clock function keeps when each schedule is due next: it takes
// the schedules from the manifests that it is deployed with, and sends event.ClockFired to the function at each run. So
// a changed or removed schedule takes effect when the clock is deployed, and a function needs no loop and may be at
// zero. A run is handled like any event: tried again when it fails, once however many instances there are.
//
// A run is never early. It is late by a tick of the host and by the backlog of events; when nothing ran at the time, it
// is missed, and the schedule says what happens then: see Missed.
package cron

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// Missed is what happens to runs that are missed: those whose time passed while no clock ran.
type Missed string

// What may happen to missed runs.
const (
	RunOnce Missed = "once" // the last one is made up for, and the others are left out
	Skip    Missed = "skip" // all are left out that are more than Grace late
	RunAll  Missed = "all"  // all are made up for, in order, or the last ones of them; see Schedule.Limit
)

// Grace is how late a run may be and is not missed.
const Grace = 5 * time.Minute

const (
	defaultLimit = 10
	maxLimit     = 100
)

// Schedule is a recurring schedule of a function.
type Schedule struct {
	Name       string // within the function: lower case with hyphens, such as "nightly-report"
	Expression string // five fields, as Parse takes them
	Zone       string // IANA name; "": UTC
	Missed     Missed // "": RunOnce
	Limit      int    // the most runs that RunAll makes up for, at most 100; 0: 10

	// Do handles a run. It is an event handler: it may run again, and its effects are those of tx.
	Do func(ctx context.Context, tx *function.Tx, run Run) error
}

// Run is one run of a schedule.
type Run struct {
	At     time.Time // when it was due, in the schedule's zone
	Missed int       // how many runs before it were missed and left out
}

var name = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// On declares the schedules of a function. It is called once, in the function's constructor. It panics on a schedule
// that is not valid and on one that is declared twice.
func On(f *function.Function, schedules ...Schedule) {
	hook := f.Instance().(interface{ DeclareSchedule(s manifest.Schedule) })
	byName, zones := map[string]Schedule{}, map[string]*time.Location{}
	for _, s := range schedules {
		declared, plan, err := s.declaration()
		if _, twice := byName[s.Name]; twice && err == nil {
			err = fmt.Errorf("it is declared twice")
		}
		if err != nil {
			panic(fmt.Sprintf("function %s: schedule %q: %v", f.Name(), s.Name, err))
		}
		byName[s.Name], zones[s.Name] = s, plan.Zone()
		hook.DeclareSchedule(declared)
	}
	function.On(f, event.ClockFired, func(ctx context.Context, tx *function.Tx, fired event.FiredSchedule) error {
		s, ok := byName[fired.Schedule]
		if !ok || tx.Replayed() {
			return nil // a schedule that this version does not have; or a run of the past
		}
		return s.Do(ctx, tx, Run{At: fired.At.In(zones[s.Name]), Missed: fired.Missed})
	})
}

func (s Schedule) declaration() (manifest.Schedule, Plan, error) {
	d := manifest.Schedule{
		Name: s.Name, Expression: s.Expression, Zone: s.Zone, Missed: string(s.Missed), Limit: s.Limit,
	}
	if d.Missed == "" {
		d.Missed = string(RunOnce)
	}
	if d.Zone == "" {
		d.Zone = "UTC"
	}
	plan, err := Parse(d.Expression, d.Zone)
	switch {
	case err != nil:
	case !name.MatchString(s.Name):
		err = fmt.Errorf("invalid name: want lower case letters, digits and hyphens")
	case d.Missed != string(RunOnce) && d.Missed != string(Skip) && d.Missed != string(RunAll):
		err = fmt.Errorf("unknown policy %q for missed runs (use once, skip, all)", d.Missed)
	case d.Missed != string(RunAll) && s.Limit != 0:
		err = fmt.Errorf("a limit is for the policy all only")
	case s.Limit < 0 || s.Limit > maxLimit:
		err = fmt.Errorf("invalid limit %d: want 1 to %d", s.Limit, maxLimit)
	case s.Do == nil:
		err = fmt.Errorf("it has no handler")
	}
	if d.Missed == string(RunAll) && d.Limit == 0 {
		d.Limit = defaultLimit
	}
	return d, plan, err
}

// Runs returns the runs that a schedule makes at a time, when the first that it has not made yet was due, and how many
// runs before them are left out.
func Runs(s manifest.Schedule, p Plan, due, now time.Time) (runs []time.Time, left int) {
	limit := 1
	if Missed(s.Missed) == RunAll {
		limit = min(max(s.Limit, 1), maxLimit)
	}
	runs, left = p.Due(due, now, limit)
	if Missed(s.Missed) == Skip && len(runs) > 0 && now.Sub(runs[0]) > Grace {
		return nil, left + 1
	}
	return runs, left
}
