package telemetry

import (
	"context"
	"io"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// BenchmarkProcessSpan measures the span of a delivery: with ids only, left out, left out but held for a while, and
// exported.
func BenchmarkProcessSpan(b *testing.B) {
	parent := WithTraceparent(context.Background(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")
	m := Message{
		Type: "dev.ebb.payments.captured.v1", ID: "0198c0de-0000-7000-8000-000000000001", Source: "/ebb/payments",
		SpecVersion: "1.0", Subject: "0198c0de-0000-7000-8000-000000000002",
		Conversation: "0198c0de-0000-7000-8000-000000000003", Size: 300,
	}
	ratio := []string{"OTEL_TRACES_SAMPLER", "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG", "0"}
	for name, vs := range map[string][]string{
		"ids only": nil, "left out": ratio, "held": append(ratio, "EBB_TRACES_KEEP", "1s"),
		"exported": {"OTEL_TRACES_SAMPLER", "always_on"},
	} {
		c := Config{Log: io.Discard, Lookup: vars(vs...)}
		if vs != nil {
			c.Spans = tracetest.NewNoopExporter()
		}
		tel := start(b, c)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, end := tel.ProcessSpan(parent, "orders", m, false)
				end(nil)
			}
		})
	}
}
