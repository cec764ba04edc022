package function_test

import (
	"bytes"
	"context"
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
)

var signalled = event.AccessRevoked

// taking is a handler that consumes events by itself.
type taking struct {
	http.Handler
	types []event.Typed
	got   []string
}

func (h *taking) Consumes() []event.Typed { return h.types }

func (h *taking) Receive(_ context.Context, events []ce.Event) []broker.Result {
	results := make([]broker.Result, len(events))
	for i, e := range events {
		h.got = append(h.got, e.ID())
		results[i] = broker.ResultOf(nil)
		if e.ID() == "later" {
			results[i] = broker.ResultOf(fault.New(fault.Unavailable, "away"))
		}
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
