package functiontest_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

type reminder struct {
	Text  string `json:"text"`
	Again int    `json:"again,omitempty"` // how often it is repeated, a minute apart
}

var (
	namespace = event.NewNamespace("com.example.reminders", "https://example.com/schemas/")
	example   = reminder{Text: "tea", Again: 1}
	reminded  = event.Define(namespace, "reminders.due", 1, event.Fact, "It is time.", example)
	beyond    = event.Define(namespace, "others.due", 1, event.Fact, "It is time for another function.", example)
)

// reminders sets a timer for each reminder, cancels it, and counts those that were due.
type reminders struct{ log, timers *store.Collection[[]string] }

type remindInput struct {
	Body struct {
		Text  string `json:"text"`
		In    int    `json:"in"` // seconds
		Again int    `json:"again,omitempty"`
		Other bool   `json:"other,omitempty"` // for another function
	}
}

func newReminders(env function.Env) (*function.Function, error) {
	f := function.New("reminders", env)
	s := &reminders{log: function.Collection[[]string](f, "log"), timers: function.Collection[[]string](f, "timers")}
	function.Serve(f, function.Operation{Method: http.MethodPost, Path: "/api/reminders"}, s.remind)
	function.Serve(f, function.Operation{Method: http.MethodDelete, Path: "/api/reminders"}, s.cancel)
	function.On(f, reminded, s.due)
	function.Emits(f, reminded, beyond)
	return f, nil
}

func (s *reminders) remind(ctx context.Context, tx *function.Tx, in *remindInput) (*struct{}, error) {
	t := reminded
	if in.Body.Other {
		t = beyond
	}
	e := t.New("r", reminder{Text: in.Body.Text, Again: in.Body.Again})
	timer, err := tx.After(tx.Now().Add(time.Duration(in.Body.In)*time.Second), e)
	if err != nil {
		return nil, err
	}
	return nil, s.timers.Put(ctx, tx, "all", []string{timer})
}

// cancel cancels the timer that was set last.
func (s *reminders) cancel(ctx context.Context, tx *function.Tx, _ *struct{}) (*struct{}, error) {
	timers, err := s.timers.Get(ctx, tx, "all")
	if err != nil {
		return nil, err
	}
	tx.CancelTimer(timers[0], "r")
	return nil, nil
}

func (s *reminders) due(ctx context.Context, tx *function.Tx, e reminder) error {
	if e.Text == "bad" {
		return fault.New(fault.Unavailable, "not today")
	}
	if e.Again > 0 {
		next := reminded.New("r", reminder{Text: e.Text, Again: e.Again - 1})
		if _, err := tx.After(tx.Now().Add(time.Minute), next); err != nil {
			return err
		}
	}
	log, _, err := s.log.Find(ctx, tx, "all")
	if err != nil {
		return err
	}
	return s.log.Put(ctx, tx, "all", append(log, tx.Now().Format("15:04:05 ")+e.Text))
}

func remind(h *functiontest.Harness, body map[string]any) {
	h.Call("POST", "/api/reminders", functiontest.As("ada"), body).Expect(204)
}

// log returns what the handler of due timers has written, in its order.
func log(t *testing.T, h *functiontest.Harness) string {
	t.Helper()
	db, err := h.Store(t.Context(), "reminders", h.I.Declaration().Schema)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	docs, err := db.Get(t.Context(), store.Key{Collection: "log", ID: "all"})
	if err != nil {
		t.Fatal(err)
	}
	return string(docs[0].Data)
}

// Timers go off in the order in which they are due, each at its time and not before, also those that a timer sets.
func TestAdvance(t *testing.T) {
	h := functiontest.New(t, newReminders)
	remind(h, map[string]any{"text": "cake", "in": 90})
	remind(h, map[string]any{"text": "tea", "in": 60, "again": 2})
	var pending []string
	for _, timer := range h.Timers() {
		pending = append(pending, timer.Due.Format("15:04:05 ")+timer.Event.Subject())
	}
	if want := []string{"12:01:00 r", "12:01:30 r"}; !slices.Equal(pending, want) {
		t.Errorf("pending %q, want %q", pending, want)
	}
	if fired := h.Advance(59 * time.Second); len(fired) != 0 || log(t, h) != "" {
		t.Errorf("fired too early: %v", fired)
	}
	h.Restart()
	if fired := h.Advance(121 * time.Second); len(fired) != 4 {
		t.Errorf("fired %d, want 4", len(fired))
	}
	if got, want := log(t, h), `["12:01:00 tea","12:01:30 cake","12:02:00 tea","12:03:00 tea"]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := h.Clock.Now().Format("15:04:05"); got != "12:03:00" {
		t.Errorf("the clock is at %s", got)
	}
	if fired := h.Advance(time.Hour); len(fired) != 0 {
		t.Errorf("fired again: %v", fired)
	}
}

// A timer that was cancelled does not go off.
func TestAdvanceAfterCancel(t *testing.T) {
	h := functiontest.New(t, newReminders)
	remind(h, map[string]any{"text": "tea", "in": 60})
	h.Call("DELETE", "/api/reminders", functiontest.As("ada"), nil).Expect(204)
	if fired := h.Advance(time.Hour); len(fired) != 0 || len(h.Timers()) != 0 {
		t.Errorf("fired %v", fired)
	}
}

// The clock learns of a timer when its command is published.
func TestTimerOfAPublishThatFailed(t *testing.T) {
	h := functiontest.New(t, newReminders)
	h.RefuseToPublish(errors.New("the broker is away"))
	h.Call("POST", "/api/reminders", functiontest.As("ada"), map[string]any{"text": "tea", "in": 60})
	if got := h.Timers(); len(got) != 0 {
		t.Errorf("pending %v, but nothing was published", got)
	}
	h.RefuseToPublish(nil)
	// A start leaves young entries of the outbox alone: another instance may publish them.
	h.Clock.Advance(30 * time.Second)
	h.Restart()
	if fired := h.Advance(30 * time.Second); len(fired) != 1 {
		t.Errorf("fired %v, want one", fired)
	}
}

// An event for other functions is due as well; it is not delivered to this one.
func TestTimerOfAnotherFunction(t *testing.T) {
	h := functiontest.New(t, newReminders)
	remind(h, map[string]any{"text": "tea", "in": 60, "other": true})
	fired := h.Advance(time.Minute)
	if got := strings.Join(functiontest.Types(fired), " "); got != "others.due.v1" || log(t, h) != "" {
		t.Errorf("fired %q, stored %s", got, log(t, h))
	}
}

// failing records the failure of a test instead of failing it.
type failing struct {
	testing.TB
	failed bool
}

func (f *failing) Fatalf(string, ...any) {
	f.failed = true
	panic(f)
}

// A due event that the function does not accept fails the test, and the timer stays.
func TestAdvanceWithAnEventThatFails(t *testing.T) {
	h := functiontest.New(t, newReminders)
	remind(h, map[string]any{"text": "bad", "in": 60})
	tb := &failing{TB: t}
	h.T = tb
	func() {
		defer func() { _ = recover() }()
		h.Advance(time.Minute)
	}()
	if !tb.failed || len(h.Timers()) != 1 {
		t.Errorf("failed %v, %d timers are pending; want a failure, 1", tb.failed, len(h.Timers()))
	}
	if r := h.Receive(h.Timers()[0].Event)[0]; r.Status != 503 {
		t.Errorf("got status %d, want 503", r.Status)
	}
}
