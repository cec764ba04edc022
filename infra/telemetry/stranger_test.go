package telemetry

import (
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// The edge continues the trace of a stranger, and whether that is exported is for the sampler to decide, and neither
// for the flag nor for the ids that the stranger sends. What follows in the trace has the decision of the edge.
func TestStrangersDoNotDecideWhatIsSampled(t *testing.T) {
	const (
		id    = "4bf92f3577b34da60000000000000001" // below every share
		high  = "4bf92f3577b34da6ffffffffffffffff" // above every share
		state = "vendor=1"
	)
	edge := Operation{Function: "gateway", Method: "GET", Route: "/", Edge: true}
	for _, c := range []struct {
		sampler, arg, parent string
		want                 bool
	}{
		{"", "", "00-" + id + "-00f067aa0ba902b7-00", true},
		{"", "", "00-" + id + "-00f067aa0ba902b7-01", true},
		{"always_off", "", "00-" + id + "-00f067aa0ba902b7-01", false},
		{"parentbased_always_off", "", "00-" + id + "-00f067aa0ba902b7-01", false},
		{"parentbased_traceidratio", "0.000000001", "00-" + id + "-00f067aa0ba902b7-01", false},
		{"traceidratio", "0.000000001", "00-" + id + "-00f067aa0ba902b7-01", false},
		{"parentbased_traceidratio", "0.999999999", "00-" + high + "-00f067aa0ba902b7-00", true},
	} {
		out := tracetest.NewInMemoryExporter()
		tel := start(t, Config{
			Spans: out, Lookup: vars("OTEL_TRACES_SAMPLER", c.sampler, "OTEL_TRACES_SAMPLER_ARG", c.arg),
		})
		ctx, answered := tel.ServerSpan(
			WithTrace(t.Context(), c.parent, state), edge, httptest.NewRequest("GET", "/", nil), false)
		inner, end := tel.Span(ctx, "inner")
		for place, got := range map[string]string{"edge": Traceparent(ctx), "inner": Traceparent(inner)} {
			same := c.sampler != "traceidratio"
			if (got[:36] == c.parent[:36]) != same || (Tracestate(ctx) == state) != same ||
				strings.HasSuffix(got, "-01") != c.want {
				t.Errorf("%s of %s: %s has %s with %q, want sampled %v", c.sampler, c.parent, place, got, Tracestate(ctx),
					c.want)
			}
		}
		end(nil)
		answered(200, nil)
		if got := len(out.GetSpans()); (got == 2) != c.want || got != 0 && got != 2 {
			t.Errorf("%s of %s: %d spans are exported, want %v", c.sampler, c.parent, got, c.want)
		}
	}
	out := tracetest.NewInMemoryExporter()
	tel := start(t, Config{
		Spans: out, Lookup: vars("OTEL_TRACES_SAMPLER", "traceidratio", "OTEL_TRACES_SAMPLER_ARG", "0.999999999"),
	})
	_, answered := tel.ServerSpan(
		WithTrace(t.Context(), "00-"+high+"-00f067aa0ba902b7-00", state), edge, httptest.NewRequest("GET", "/", nil), false)
	answered(200, nil)
	if s := out.GetSpans(); len(s) != 1 || len(s[0].Links) != 1 || s[0].Links[0].SpanContext.TraceID().String() != high {
		t.Errorf("by the id of its own trace: got %v, want a link to %s", s, high)
	}
	for name, tel := range map[string]*Telemetry{"nil": nil, "ids only": start(t, Config{})} {
		ctx, answered := tel.ServerSpan(
			WithTraceparent(t.Context(), "00-"+id+"-00f067aa0ba902b7-01"), edge, httptest.NewRequest("GET", "/", nil), false)
		answered(200, nil)
		if got := Traceparent(ctx); got[:36] != "00-"+id+"-" || !strings.HasSuffix(got, "-00") {
			t.Errorf("%s: hands on %s", name, got)
		}
	}
}
