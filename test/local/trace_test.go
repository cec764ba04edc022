package local_test

import (
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// names returns the names of the spans of the trace that the named span is part of.
func names(spans tracetest.SpanStubs, in string) []string {
	var id trace.TraceID
	for _, s := range spans {
		if s.Name == in && s.Status.Code == 0 {
			id = s.SpanContext.TraceID() // the last one: earlier ones were refused
		}
	}
	var found []string
	for _, s := range spans {
		if s.SpanContext.TraceID() == id {
			found = append(found, s.Name)
		}
	}
	return found
}

// One trace holds an order from the request to the last event that follows from it, over every function.
func TestOneTrace(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	s := start(t, t.TempDir(), 0, spans)
	product, customer := s.customer()
	s.confirmed(s.place(product, customer).ID, customer)
	var got []string
	want := []string{
		"orders POST /api/orders", "orders commit", "orders publish",
		"inventory dev.ebb.inventory.reserve.v1", "orders dev.ebb.inventory.reserved.v1",
		"payments dev.ebb.payments.authorize.v1", "payments dev.ebb.payments.capture.v1",
		"orders dev.ebb.payments.captured.v1",
		"inventory dev.ebb.inventory.ship.v1", "views dev.ebb.orders.confirmed.v1",
		"notifications dev.ebb.orders.confirmed.v1",
		"archive dev.ebb.notifications.sent.v1", "clock dev.ebb.clock.cancel.v1",
	}
	defer func() {
		if t.Failed() {
			t.Logf("the trace holds %q", got)
		}
	}()
	s.within(10*time.Second, "the trace is whole", func() bool {
		got = names(spans.GetSpans(), "orders POST /api/orders")
		for _, name := range want {
			if !slices.Contains(got, name) {
				return false
			}
		}
		return true
	})
}
