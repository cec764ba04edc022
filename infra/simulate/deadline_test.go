package simulate

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/saga"
	"github.com/ebb-dev/ebb/infra/store"
)

// timerEvent returns the command that has the clock publish an event after d.
func timerEvent(t *testing.T, id string, d time.Duration) *ce.Event {
	t.Helper()
	e := ce.New()
	e.SetID("schedule-" + id)
	e.SetSource("/functions/orders")
	e.SetType(event.ClockSchedule.Name())
	e.SetTime(epoch)
	timer := event.ScheduleEvent{TimerID: id, Due: epoch.Add(d), Event: json.RawMessage(`{}`)}
	if err := e.SetData(ce.ApplicationJSON, timer); err != nil {
		t.Fatal(err)
	}
	return &e
}

func newWaits() waits {
	return waits{timers: map[string]bool{}, expired: map[string]bool{}, undone: map[string]bool{}}
}

// Faults last as long as the longest timer asks for; one that is no deadline, because it outlasts what a run has, does
// not count. A timer that goes off is counted once.
func TestDeadlineOfTimers(t *testing.T) {
	sim := &Simulation{waits: newWaits()}
	fault := Fault{For: 3 * time.Second, Deadlines: 1.5}
	if got := sim.hold(fault); got != 3*time.Second {
		t.Errorf("without a timer: got %s", got)
	}
	sim.waits.observe(timerEvent(t, "a", 30*time.Second), 15*time.Minute)
	sim.waits.observe(timerEvent(t, "b", 20*time.Second), 15*time.Minute)
	sim.waits.observe(timerEvent(t, "c", 30*24*time.Hour), 15*time.Minute)
	if got := sim.hold(fault); got != 45*time.Second {
		t.Errorf("with a timer of 30 s: got %s", got)
	}
	if got := sim.hold(Fault{For: 3 * time.Second}); got != 3*time.Second {
		t.Errorf("a fault that is not scaled: got %s", got)
	}
	for range 2 {
		e := ce.New()
		e.SetID("a")
		sim.waits.observe(&e, 0)
	}
	if len(sim.waits.timers) != 3 || sim.waits.fired != 1 {
		t.Errorf("got %d timers, %d fired", len(sim.waits.timers), sim.waits.fired)
	}
}

// The plans of many seeds have faults around the longest deadline and beyond, and one more of them in many runs where a
// function consumes commands; none of a kind that was not asked for.
func TestPlanOutlastsDeadlines(t *testing.T) {
	plan := func(seed uint64, commands bool, kinds ...Kind) []Fault {
		sim := &Simulation{sys: System{Faults: kinds}.withDefaults()}
		sim.supervisors = []*supervisor{{sim: sim, name: "payments", consumes: true, commands: commands}}
		return sim.plan(rand.New(rand.NewPCG(seed, 3)))
	}
	var below, beyond, short, extra int
	for seed := range uint64(200) {
		for _, f := range plan(seed, true, Reorder, Delay) {
			switch {
			case f.Deadlines == 0:
				short++
			case f.Deadlines < 1:
				below++
			default:
				beyond++
			}
			if f.Deadlines > 2 || f.For > maxDelay {
				t.Fatalf("got %s", f)
			}
		}
		with, without := plan(seed, true, Reorder), plan(seed, false, Reorder)
		if len(with) > len(without) {
			extra++
		}
		if faults := plan(seed, true, Crash); slices.ContainsFunc(faults, func(f Fault) bool { return f.Kind != Crash }) {
			t.Fatalf("crashes were asked for: got %v", faults)
		}
	}
	if short < 200 || below < 100 || beyond < 200 || extra < 50 {
		t.Errorf("got %d short, %d below a deadline, %d beyond, %d runs with one more", short, below, beyond, extra)
	}
}

// While a fault holds an event back no delivery runs out of attempts; afterwards it does.
func TestNoDeadLetterWhileAnEventIsHeldBack(t *testing.T) {
	sim := &Simulation{names: map[string]string{}, poisoned: map[poisoned]bool{}, waits: newWaits()}
	tr := &trigger{s: &supervisor{sim: sim, name: "views"}, decl: broker.Trigger{Delivery: broker.DefaultDelivery}}
	it := &item{e: ce.New()}
	notYet := broker.Result{Status: http.StatusServiceUnavailable}
	sim.holdBack(time.Hour)
	for range 100 {
		tr.recorded(it, notYet, 1)
	}
	if it.dead != nil {
		t.Fatal("it is dead-lettered while another event is held back")
	}
	sim.waits.held--
	n := 0
	for ; it.dead == nil; n++ {
		tr.recorded(it, notYet, 1)
	}
	if n < 3 || n > broker.DefaultDelivery.Retry {
		t.Errorf("it had %d more attempts", n)
	}
}

// Expired and undone steps are counted from commits, once each however often they are stored.
func TestCommittedSagas(t *testing.T) {
	steps := func(at time.Time, states ...saga.StepProgress) []saga.StepProgress {
		states[0].StartedAt = at
		return states
	}
	reserved, voiding := saga.StepProgress{
		Name:  "reserve",
		State: saga.Done,
	}, saga.StepProgress{
		Name:      "pay",
		State:     saga.BeingUndone,
		UndoingAt: epoch,
	}
	running := saga.Progress{
		Status: saga.Running,
		Step:   "pay",
		Steps:  steps(epoch, reserved, saga.StepProgress{Name: "pay", State: saga.Doing}),
	}
	undoing := saga.Progress{
		Status: saga.Undoing,
		Step:   "pay",
		Reason: "step pay timed out",
		Steps:  steps(epoch, reserved, voiding),
	}
	another := saga.Progress{
		Status: saga.Undoing,
		Step:   "pay",
		Reason: "a change of mind",
		Steps:  steps(epoch.Add(1), reserved, voiding),
	}
	again := another
	again.Again = 2
	sim := newWaits()
	for _, c := range []struct {
		p               saga.Progress
		expired, undone int
	}{{running, 0, 0}, {undoing, 1, 1}, {undoing, 1, 1}, {another, 1, 2}, {again, 2, 2}} {
		data, err := json.Marshal(map[string]any{"id": "order-1", "saga": c.p})
		if err != nil {
			t.Fatal(err)
		}
		sim.committed("orders", store.Batch{Mutations: []store.Mutation{{Data: data}}})
		if !sim.sagas || len(sim.expired) != c.expired || len(sim.undone) != c.undone {
			t.Errorf("after %s: got %d expired, %d undone", data, len(sim.expired), len(sim.undone))
		}
	}
}

// Progress warns of timers, deadlines and undos that no run came to, and not of those that the system lacks.
func TestWarnings(t *testing.T) {
	for _, c := range []struct {
		p    Progress
		want string
	}{
		{Progress{Done: 9}, "[]"},
		{Progress{Done: 9, Timers: 3, Fired: 1, Sagas: 9, Expired: 1, Undone: 1}, "[]"},
		{Progress{Done: 9, Timers: 3, Sagas: 9, Undone: 1},
			"[3 timers were set and none ever went off; there are sagas, and in 9 seeds no step ever expired]"},
		{Progress{Done: 9, Sagas: 9, Expired: 1}, "[there are sagas, and in 9 seeds no undo ever ran]"},
	} {
		if got := "[" + strings.Join(c.p.Warnings(), "; ") + "]"; got != c.want {
			t.Errorf("%s: got %s", fmt.Sprint(c.p), got)
		}
	}
}
