package function_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
)

var signalled = event.AccessRevoked

// taking is a handler that consumes events by itself.
type taking struct {
	http.Handler
	types []event.Typed
	got   []string
	short bool // it answers nothing
}

func (h *taking) Consumes() []event.Typed { return h.types }

func (h *taking) Receive(_ context.Context, events []ce.Event) []broker.Result {
	results := make([]broker.Result, len(events))
	for i, e := range events {
		h.got = append(h.got, e.ID())
		if strings.HasPrefix(e.ID(), "bad") {
			panic("on purpose")
		}
		results[i] = broker.ResultOf(nil)
		if e.ID() == "later" {
			results[i] = broker.ResultOf(fault.New(fault.Unavailable, "away"))
		}
	}
	if h.short {
		return nil
	}
	return results
}

// A handler can consume events, each as it comes, without a store. Events of other types do not reach it.
func TestHandlerConsumes(t *testing.T) {
	h := &taking{Handler: http.NotFoundHandler(), types: []event.Typed{signalled}}
	var logged bytes.Buffer
	f := function.New("gateway", function.Env{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	function.Handler(f, h, nil)
	d := f.Instance().Declaration()
	if !slices.Equal(d.Consumes, []string{signalled.Name()}) || d.Trigger == nil || len(d.Subscription.Filters) == 0 ||
		len(d.Schema) > 0 || len(d.Types) != 1 {
		t.Errorf("got %+v", d)
	}
	if err := f.Instance().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	one := func(id, eventType string) ce.Event {
		e := ce.New()
		e.SetID(id)
		e.SetSource("/test")
		e.SetType(eventType)
		return e
	}
	events := []ce.Event{
		one("a", signalled.Name()), one("b", "test.ebb.other.v1"), one("later", signalled.Name()), {},
		one("a", signalled.Name()),
	}
	var statuses []int
	for _, r := range f.Instance().Receive(t.Context(), events) {
		statuses = append(statuses, r.Status)
	}
	if !slices.Equal(statuses, []int{200, 422, 503, 422, 200}) || !slices.Equal(h.got, []string{"a", "later", "a"}) {
		t.Errorf("got %v, and the handler %v", statuses, h.got)
	}
	for _, want := range []string{"event=b kind=invalid", "event=later kind=unavailable"} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("no %q in the log:\n%s", want, &logged)
		}
	}

	h.types = nil // a handler may consume nothing
	f = function.New("gateway", function.Env{})
	if function.Handler(f, h, nil); f.Instance().Declaration().Trigger != nil {
		t.Error("there is a trigger for no events")
	}
}

// A handler that panics answers for the event that is to blame, and for no other: that one has failed with 500, which
// counts as an attempt, later ones of its key wait, and the stack is in the log.
func TestHandlerPanics(t *testing.T) {
	h := &taking{Handler: http.NotFoundHandler(), types: []event.Typed{signalled}}
	var logged bytes.Buffer
	f := function.New("gateway", function.Env{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	function.Handler(f, h, nil)
	if err := f.Instance().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var events []ce.Event
	for _, id := range []string{"good 1", "bad k", "good k", "good 2", "bad 3"} {
		e := ce.New()
		e.SetID(id)
		e.SetSource("/test")
		e.SetType(signalled.Name())
		if strings.HasSuffix(id, "k") {
			e.SetExtension(event.PartitionKey, "k")
		}
		events = append(events, e)
	}
	results := f.Instance().Receive(t.Context(), events)
	for i, want := range []int{200, 500, 0, 200, 500} {
		if got := results[i]; got.Status != want || got.Skipped != (want == 0) {
			t.Errorf("%s: got %+v, want status %d", events[i].ID(), got, want)
		}
	}
	if !strings.Contains(logged.String(), "receiver_test.go") {
		t.Errorf("no stack in the log:\n%s", &logged)
	}
	h.short = true
	if got := f.Instance().Receive(t.Context(), events[:1]); len(got) != 1 || got[0].Status != 0 {
		t.Errorf("without an answer: got %+v", got)
	}
}

// A prefetch that panics leaves the documents to the handler, and events whose data cannot be encoded fail by
// themselves: neither ends the batch.
func TestPanicsBesideHandler(t *testing.T) {
	h := functiontest.New(t, func(env function.Env) (*function.Function, error) {
		f := function.New("shipping", env)
		function.Prefetch(f, func(ce.Event) []store.Key { panic("on purpose") })
		function.OnAny(f, func(_ context.Context, tx *function.Tx, e ce.Event) error {
			tx.Emit(panicking.New("a", unencodable{e.Subject()}))
			return nil
		})
		function.Emits(f, panicking)
		return f, nil
	})
	got := h.Deliver(ship("bad"), ship("good"))
	if got[0].Status != 500 || got[1].Status != 200 || len(h.Emitted()) != 1 {
		t.Errorf("got %+v", got)
	}
}

// unencodable is data that panics when it is encoded for an order called bad.
type unencodable orderRef

// MarshalJSON implements json.Marshaler.
func (u unencodable) MarshalJSON() ([]byte, error) {
	if u.OrderID == "bad" {
		panic("on purpose")
	}
	return json.Marshal(orderRef(u))
}

var panicking = event.Define(example, "shipping.panicking", 1, event.Fact, "It panics.", unencodable{"o1"})
