package local_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// traceOf returns the spans of the trace that the last span of the name is part of.
func traceOf(spans tracetest.SpanStubs, name string) tracetest.SpanStubs {
	var id trace.TraceID
	for _, s := range spans {
		if s.Name == name && s.Status.Code == 0 {
			id = s.SpanContext.TraceID() // the last one: earlier ones were refused
		}
	}
	return slices.DeleteFunc(slices.Clone(spans), func(s tracetest.SpanStub) bool {
		return s.SpanContext.TraceID() != id
	})
}

// publications returns the names of the spans that published events.
func publications(spans tracetest.SpanStubs) map[trace.SpanID]string {
	published := map[trace.SpanID]string{}
	for _, s := range spans {
		if s.SpanKind == trace.SpanKindProducer {
			published[s.SpanContext.SpanID()] = s.Name
		}
	}
	return published
}

// linked reports whether the links of all spans are to publications that are among them: one ends when its event has
// been published, and the delivery may have ended before.
func linked(spans tracetest.SpanStubs) bool {
	published := publications(spans)
	for _, s := range spans {
		for _, l := range s.Links {
			if published[l.SpanContext.SpanID()] == "" {
				return false
			}
		}
	}
	return true
}

// One trace holds an order from the request to the last event that follows from it, over every function. Each delivery
// is linked to the publication of its event.
func TestOneTrace(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	s := start(t, t.TempDir(), 0, spans)
	product, customer := s.customer()
	s.confirmed(s.place(product, customer).ID, customer)
	var got []string
	want := []string{
		"POST /api/orders", "orders commit",
		"publish dev.ebb.inventory.reserve.v1", "process dev.ebb.inventory.reserve.v1",
		"publish dev.ebb.inventory.reserved.v1", "process dev.ebb.inventory.reserved.v1",
		"process dev.ebb.payments.authorize.v1", "process dev.ebb.payments.capture.v1",
		"process dev.ebb.payments.captured.v1", "process dev.ebb.inventory.ship.v1",
		"publish dev.ebb.orders.confirmed.v1", "process dev.ebb.orders.confirmed.v1",
		"process dev.ebb.notifications.sent.v1", "process dev.ebb.clock.cancel.v1",
	}
	defer func() {
		if t.Failed() {
			t.Logf("the trace holds %q", got)
		}
	}()
	var whole tracetest.SpanStubs
	s.within(10*time.Second, "the trace is whole", func() bool {
		whole, got = traceOf(spans.GetSpans(), "POST /api/orders"), nil
		for _, s := range whole {
			got = append(got, s.Name)
		}
		for _, name := range want {
			if !slices.Contains(got, name) {
				return false
			}
		}
		return linked(whole)
	})
	published := publications(whole)
	for _, s := range whole {
		eventType, delivered := strings.CutPrefix(s.Name, "process ")
		if !delivered {
			continue
		}
		if s.SpanKind != trace.SpanKindConsumer || len(s.Links) != 1 {
			t.Errorf("%s is a %s with %d links", s.Name, s.SpanKind, len(s.Links))
			continue
		}
		from := published[s.Links[0].SpanContext.SpanID()]
		if from != "publish "+eventType {
			t.Errorf("%s is linked to %q", s.Name, from)
		}
	}
}
