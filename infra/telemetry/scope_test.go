package telemetry_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/ebb-dev/ebb/infra/telemetry"
)

// A scope brings the trace and the correlation of a call into another context, without its end; the zero one nothing.
func TestScope(t *testing.T) {
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	call, cancel := context.WithCancel(telemetry.WithCorrelation(trace.ContextWithSpanContext(t.Context(), span), "c1"))
	scope := telemetry.ScopeOf(call)
	cancel()
	later := scope.In(telemetry.WithCorrelation(t.Context(), "other"))
	if got := telemetry.Traceparent(later); got != telemetry.Traceparent(call) || got == "" {
		t.Errorf("got the trace %q, want that of the call", got)
	}
	if got := telemetry.Correlation(later); got != "c1" || later.Err() != nil {
		t.Errorf("got the correlation %q and the error %v, want c1 and none", got, later.Err())
	}
	none := telemetry.WithCorrelation(t.Context(), "other")
	if got := (telemetry.Scope{}).In(none); got != none || scope.IsZero() || !(telemetry.Scope{}).IsZero() {
		t.Error("the zero scope changes a context")
	}
}
