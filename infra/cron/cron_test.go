package cron_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/cron"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/store"
)

type report struct {
	Runs []string `json:"runs"`
}

// reporting makes a function with two schedules that notes their runs.
func reporting(env function.Env) (*function.Function, error) {
	f := function.New("reports", env)
	reports := function.Collection[report](f, "reports", store.On("runs"))
	note := func(name string) func(context.Context, *function.Tx, cron.Run) error {
		return func(ctx context.Context, tx *function.Tx, run cron.Run) error {
			if name == "failing" {
				return errors.New("not today")
			}
			r, _, err := reports.Find(ctx, tx, name)
			if err != nil {
				return err
			}
			r.Runs = append(r.Runs, fmt.Sprint(run.At.Format(layout), " ", run.Missed))
			return reports.Put(ctx, tx, name, r)
		}
	}
	cron.On(f,
		cron.Schedule{Name: "nightly", Expression: "0 3 * * *", Zone: "Europe/Berlin", Do: note("nightly")},
		cron.Schedule{Name: "failing", Expression: "*/5 * * * *", Missed: cron.RunAll, Do: note("failing")})
	function.Serve(f, function.Operation{Method: "GET", Path: "/api/reports/{name}", Access: function.Public},
		func(ctx context.Context, tx *function.Tx, in *struct {
			Name string `path:"name"`
		}) (*struct{ Body report }, error) {
			r, err := reports.Get(ctx, tx, in.Name)
			return &struct{ Body report }{r}, err
		})
	return f, nil
}

func fired(schedule string, at time.Time, missed int) event.Draft {
	return event.ClockFired.New("reports/"+schedule,
		event.FiredSchedule{Function: "reports", Schedule: schedule, At: at, Missed: missed})
}

// A run is handled once, with the time at which it was due in the schedule's zone. A run of a schedule that the
// function does not have any more, or of the past, does nothing; one that fails is tried again.
func TestRun(t *testing.T) {
	h := functiontest.New(t, reporting)
	at := time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	e := h.Event(fired("nightly", at, 2))
	h.Receive(e, e)
	h.MustDeliver(fired("weekly", at, 0))
	past := h.Event(fired("nightly", at, 0))
	past.SetExtension(event.Replay, "r1")
	past.SetExtension(event.ReplayTo, "reports")
	h.Receive(past)
	var r report
	h.Call("GET", "/api/reports/nightly", functiontest.Nobody, nil).Expect(200).JSON(&r)
	if want := []string{"2026-03-01 03:00 +0100 2"}; !slices.Equal(r.Runs, want) {
		t.Errorf("got %v, want %v", r.Runs, want)
	}
	if got := h.Deliver(fired("failing", at, 0)); got[0].Status != 500 {
		t.Errorf("a run that fails is answered %v", got)
	}
}

// The schedules are a part of the manifest, and the trigger takes only the function's own runs.
func TestDeclared(t *testing.T) {
	d, err := function.Declare(reporting)
	if err != nil {
		t.Fatal(err)
	}
	want := []manifest.Schedule{
		{Name: "nightly", Expression: "0 3 * * *", Zone: "Europe/Berlin", Missed: "once"},
		{Name: "failing", Expression: "*/5 * * * *", Zone: "UTC", Missed: "all", Limit: 10},
	}
	if !slices.Equal(d.Schedules, want) {
		t.Errorf("got %v, want %v", d.Schedules, want)
	}
	m, err := broker.Compile(d.Subscription.Filters)
	if err != nil {
		t.Fatal(err)
	}
	h := functiontest.New(t, reporting)
	for subject, want := range map[string]bool{
		"reports/nightly": true, "reports-2/nightly": false, "tickets/nightly": false, "reports": false,
	} {
		e := h.Event(event.ClockFired.New(subject, event.FiredSchedule{Function: "x", Schedule: "y", At: h.Clock.Now()}))
		if got := m.Match(&e); got != want {
			t.Errorf("%s: matches %v, want %v", subject, got, want)
		}
	}
}

// A schedule that is not valid is found when the function is made.
func TestInvalidSchedule(t *testing.T) {
	do := func(context.Context, *function.Tx, cron.Run) error { return nil }
	valid := cron.Schedule{Name: "a", Expression: "0 3 * * *", Do: do}
	for want, change := range map[string]func(*cron.Schedule){
		"invalid cron":      func(s *cron.Schedule) { s.Expression = "never" },
		"invalid time zone": func(s *cron.Schedule) { s.Zone = "Mars" },
		"invalid name":      func(s *cron.Schedule) { s.Name = "A b" },
		"unknown policy":    func(s *cron.Schedule) { s.Missed = "perhaps" },
		"a limit is for":    func(s *cron.Schedule) { s.Limit = 3 },
		"invalid limit":     func(s *cron.Schedule) { s.Missed, s.Limit = cron.RunAll, 101 },
		"no handler":        func(s *cron.Schedule) { s.Do = nil },
		"declared twice":    func(s *cron.Schedule) { s.Name = "b" },
	} {
		s := valid
		change(&s)
		func() {
			defer func() {
				if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), want) {
					t.Errorf("got %v, want %s", p, want)
				}
			}()
			cron.On(function.New("f", function.Env{}), cron.Schedule{Name: "b", Expression: "0 3 * * *", Do: do}, s)
		}()
	}
}
