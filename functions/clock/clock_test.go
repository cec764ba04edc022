package clock_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/functions/clock"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

type passed struct {
	OrderID string `json:"order_id"`
}

var deadlinePassed = event.Define(event.NewNamespace(
	"com.example.shop", "https://shop.example.com/schemas",
), "orders.deadline", 1,
	event.Fact, "The deadline of an order passed.", passed{OrderID: "o"})

// deadline returns the command that schedules an order's deadline, and the event of the timer.
func deadline(t *testing.T, h *functiontest.Harness, timer string, in time.Duration) (event.Draft, ce.Event) {
	t.Helper()
	e := h.Event(deadlinePassed.New(timer, passed{OrderID: timer}))
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return event.ClockSchedule.New(timer, event.ScheduleEvent{TimerID: timer, Due: h.Clock.Now().Add(in), Event: data}), e
}

func subjects(es []ce.Event) []string {
	var all []string
	for _, e := range es {
		all = append(all, e.Subject())
	}
	return all
}

// A timer fires once, when it is due and not before, and publishes its event unchanged.
func TestTimerFires(t *testing.T) {
	h := functiontest.New(t, clock.New)
	command, want := deadline(t, h, "order-1", time.Minute)
	h.MustDeliver(command)

	h.Clock.Advance(59 * time.Second)
	h.Tick()
	if got := h.Emitted(); len(got) != 0 {
		t.Fatalf("early: got %v", got)
	}
	h.Clock.Advance(time.Second)
	h.Tick()
	h.Tick()
	got := h.Emitted()
	if len(got) != 1 || got[0].String() != want.String() {
		t.Fatalf("got %v, want %v", got, want)
	}
}

// A second schedule with the same id moves the timer, also to an earlier time.
func TestTimerMoves(t *testing.T) {
	h := functiontest.New(t, clock.New)
	first, _ := deadline(t, h, "order-1", time.Minute)
	second, want := deadline(t, h, "order-1", 5*time.Minute)
	h.MustDeliver(first, second)

	h.Clock.Advance(2 * time.Minute)
	h.Tick()
	if got := h.Emitted(); len(got) != 0 {
		t.Fatalf("before its new time: got %v", got)
	}
	h.Clock.Advance(3 * time.Minute)
	h.Tick()
	if got := h.Emitted(); len(got) != 1 || got[0].ID() != want.ID() {
		t.Fatalf("got %v, want the event of the second command", got)
	}
}

// Replayed commands set no timer and cancel none.
func TestReplayed(t *testing.T) {
	h := functiontest.New(t, clock.New)
	replayed := func(d event.Draft) ce.Event {
		e := h.Event(d)
		e.SetExtension(event.Replay, "r1")
		e.SetExtension(event.ReplayTo, "clock")
		return e
	}
	past, _ := deadline(t, h, "order-1", time.Minute)
	command, want := deadline(t, h, "order-2", time.Minute)
	h.MustDeliver(command)
	h.Receive(replayed(past), replayed(event.ClockCancel.New("order-2", event.CancelTimer{TimerID: "order-2"})))
	h.Clock.Advance(time.Hour)
	h.Tick()
	if got := h.Emitted(); len(got) != 1 || got[0].ID() != want.ID() {
		t.Fatalf("got %v, want the event of order-2", subjects(got))
	}
}

// A cancelled timer does not fire, and cancelling an unknown timer is no error.
func TestTimerIsCancelled(t *testing.T) {
	h := functiontest.New(t, clock.New)
	command, _ := deadline(t, h, "order-1", time.Minute)
	h.MustDeliver(command)
	h.MustDeliver(event.ClockCancel.New("order-1", event.CancelTimer{TimerID: "order-1"}))
	h.MustDeliver(event.ClockCancel.New("order-2", event.CancelTimer{TimerID: "order-2"}))
	h.Clock.Advance(time.Minute)
	h.Tick()
	if got := h.Emitted(); len(got) != 0 {
		t.Fatalf("got %v", got)
	}
}

// A cancel that overtakes its schedule is remembered, for three days.
func TestCancelOvertakesSchedule(t *testing.T) {
	h := functiontest.New(t, clock.New)
	command, e := deadline(t, h, "order-1", time.Minute)
	overtaken := h.Event(command)
	var own event.ScheduleEvent // as the kit sets timers: the id of the timer is that of its event
	own, _ = command.Data.(event.ScheduleEvent)
	own.TimerID = e.ID()
	ownTimer := h.Event(event.ClockSchedule.New("order-1", own))
	ownTimer.SetTime(h.Clock.Now().Add(time.Minute)) // the clock of its sender is ahead
	h.Clock.Advance(time.Second)
	for _, id := range []string{"order-1", e.ID()} {
		h.MustDeliver(event.ClockCancel.New(id, event.CancelTimer{TimerID: id}))
	}
	h.Restart()
	h.Receive(overtaken, ownTimer)
	h.Clock.Advance(2 * time.Minute)
	h.Tick()
	if got := h.Emitted(); len(got) != 0 {
		t.Fatalf("a cancelled timer fires: %v", got)
	}
	again, want := deadline(t, h, "order-1", time.Minute) // the same id, set again later
	h.MustDeliver(again)
	h.Clock.Advance(2 * time.Minute)
	h.Tick()
	if got := h.Emitted(); len(got) != 1 || got[0].ID() != want.ID() {
		t.Fatalf("got %v, want the event of the timer that was set again", got)
	}
	h.Clock.Advance(73 * time.Hour)
	h.Tick()
	h.Clock.Advance(time.Hour)
	h.Tick()
	db, err := h.Store(t.Context(), "clock", store.Schema{{Name: "cancelled"}})
	if err != nil {
		t.Fatal(err)
	}
	left, _, err := db.Query(t.Context(), store.Query{Collection: "cancelled", Limit: 10})
	if len(left) > 0 || err != nil {
		t.Errorf("three days later %d cancels are remembered, %v", len(left), err)
	}
}

// limited is a store whose documents have a limit in bytes, as Firestore's have.
type limited struct {
	store.Driver
	bytes int
}

func (l limited) Commit(ctx context.Context, b store.Batch) error {
	for _, m := range b.Mutations {
		if len(m.Data) > l.bytes {
			return fault.New(fault.TooLarge, "%s has %d bytes", m.Collection, len(m.Data))
		}
	}
	return l.Driver.Commit(ctx, b)
}

// Many large timers that are due together fire on a store with a limit in bytes, also where it is smaller than the
// portions of the clock.
func TestLargeTimers(t *testing.T) {
	for bytes, timers := range map[int]int{1 << 20: 500, 60 << 10: 50, 12 << 10: 50} {
		h := functiontest.New(t, clock.New, func(h *functiontest.Harness) {
			open := memory.Opener()
			h.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
				db, err := open(ctx, name, schema)
				return limited{db, bytes}, err
			}
		})
		for n := range timers {
			id := fmt.Sprintf("%0*d", 2500, n)
			e := h.Event(deadlinePassed.New(fmt.Sprint(n), passed{OrderID: id}))
			data, err := event.ToJSON(e)
			if err != nil {
				t.Fatal(err)
			}
			command := event.ScheduleEvent{TimerID: fmt.Sprint(n), Due: h.Clock.Now(), Event: data}
			h.MustDeliver(event.ClockSchedule.New(fmt.Sprint(n), command))
		}
		for more := true; more; {
			var err error
			if more, err = h.I.Tick(t.Context(), h.Clock.Now()); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(h.Emitted()); got != timers {
			t.Errorf("a store for %d bytes: %d timers fired", bytes, got)
		}
	}
}

// A tick publishes at most five hundred events, oldest first, and requests another tick for the rest.
func TestManyTimers(t *testing.T) {
	h := functiontest.New(t, clock.New)
	for n := range 1100 {
		command, _ := deadline(t, h, fmt.Sprintf("order-%04d", n), time.Duration(n+1)*time.Second/10)
		h.MustDeliver(command)
	}
	h.Clock.Advance(2 * time.Minute)
	more, err := h.I.Tick(t.Context(), h.Clock.Now())
	if err != nil || !more {
		t.Fatalf("first tick: got more %v, error %v", more, err)
	}
	first := h.Emitted()
	if got := subjects(first); len(got) != 500 || got[0] != "order-0000" || got[499] != "order-0499" {
		t.Fatalf("first tick: got %d events, %v", len(got), got)
	}
	h.Restart() // nothing in memory matters
	h.Tick()
	if got := subjects(h.Emitted()); len(got) != 600 || got[0] != "order-0500" || got[599] != "order-1099" {
		t.Fatalf("the rest: got %d events", len(got))
	}
}

// clock.swept is emitted every ten minutes, once for any number of ticks.
func TestSweep(t *testing.T) {
	for name, c := range map[string]struct {
		vars  map[string]string
		every time.Duration
	}{
		"by default":    {nil, 10 * time.Minute},
		"as configured": {map[string]string{"EBB_CLOCK_SWEEP": "1m"}, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			h := functiontest.New(t, clock.New, functiontest.Set(c.vars))
			h.Tick()
			if got := h.Emitted(); len(got) != 0 {
				t.Fatalf("at the first tick: got %v", got)
			}
			h.Clock.Advance(c.every - time.Second)
			h.Tick()
			if got := h.Emitted(); len(got) != 0 {
				t.Fatalf("too early: got %v", got)
			}
			h.Clock.Advance(time.Second)
			h.Restart()
			h.Tick()
			h.Tick()
			if got := functiontest.Types(h.Emitted()); len(got) != 1 || got[0] != "clock.swept.v1" {
				t.Fatalf("got %v", got)
			}
		})
	}
}

// After a host's clock was far ahead for a while, clock.swept is emitted again without waiting for that time.
func TestSweepAfterAClockWasAhead(t *testing.T) {
	h := functiontest.New(t, clock.New)
	h.Tick()
	now := h.Clock.Now()
	if _, err := h.I.Tick(t.Context(), now.Add(24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	h.Emitted()
	if _, err := h.I.Tick(t.Context(), now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got := functiontest.Types(h.Emitted()); len(got) != 1 || got[0] != "clock.swept.v1" {
		t.Fatalf("got %v", got)
	}
}

// An invalid CloudEvent is refused for good when it is scheduled, not when it is due.
func TestNotAnEvent(t *testing.T) {
	h := functiontest.New(t, clock.New)
	for _, bad := range []string{`{"nothing":true}`, `{"specversion":"1.0","data_base64":0}`,
		`{"specversion":"1.0","id":"1","source":"/x","type":"x.y","datacontenttype":"application/json",` +
			`"data_base64":"bm90"}`} {
		got := h.Deliver(
			event.ClockSchedule.New("x", event.ScheduleEvent{TimerID: "x", Due: h.Clock.Now(), Event: json.RawMessage(bad)}),
		)
		if got[0].Status != 422 {
			t.Errorf("%s: got %+v, want 422", bad, got[0])
		}
	}
}

// Events that could not be published stay in the outbox, and the next tick publishes them.
func TestPublishFails(t *testing.T) {
	h := functiontest.New(t, clock.New)
	command, want := deadline(t, h, "order-1", time.Minute)
	h.MustDeliver(command)
	h.Clock.Advance(time.Minute)
	h.RefuseToPublish(fmt.Errorf("broker away"))
	if _, err := h.I.Tick(t.Context(), h.Clock.Now()); err == nil {
		t.Fatal("the tick succeeded although nothing could be published")
	}
	h.RefuseToPublish(nil)
	h.Tick()
	if got := h.Emitted(); len(got) != 1 || got[0].ID() != want.ID() ||
		got[0].Extensions()[event.PartitionKey] != "order-1" {
		t.Fatalf("got %v", got)
	}
}
