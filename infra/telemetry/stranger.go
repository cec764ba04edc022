package telemetry

import (
	"context"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// strangerKey is the key of the span that a stranger has sent, as a trace.SpanContext.
type strangerKey struct{}

// fromStranger returns a context whose span, if it has one, is a stranger's: it is not flagged as sampled, and the
// sampler decides about its next child as about a root. Where all spans are sampled by the id of their trace, the
// context has no span, and the next one has a link to the stranger's.
func (t *Telemetry) fromStranger(ctx context.Context) (context.Context, []trace.Link) {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return ctx, nil
	}
	sc = sc.WithTraceFlags(sc.TraceFlags().WithSampled(false))
	if t != nil && t.byID {
		return trace.ContextWithSpanContext(ctx, trace.SpanContext{}), []trace.Link{{SpanContext: sc}}
	}
	return context.WithValue(trace.ContextWithRemoteSpanContext(ctx, sc), strangerKey{}, sc), nil
}

// isStrangers reports whether the span of ctx is a stranger's.
func isStrangers(ctx context.Context) bool {
	sc, ok := ctx.Value(strangerKey{}).(trace.SpanContext)
	return ok && sc.SpanID() == trace.SpanContextFromContext(ctx).SpanID()
}

// edgeSampler is a sampler that decides about children of strangers' spans as about roots, with random ids: samplers of
// a share of the traces decide by the id.
type edgeSampler struct{ sdktrace.Sampler }

// ShouldSample implements sdktrace.Sampler.
func (s edgeSampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if !isStrangers(p.ParentContext) {
		return s.Sampler.ShouldSample(p)
	}
	state := trace.SpanContextFromContext(p.ParentContext).TraceState()
	p.ParentContext = trace.ContextWithSpanContext(p.ParentContext, trace.SpanContext{})
	p.TraceID = newTraceID()
	result := s.Sampler.ShouldSample(p)
	result.Tracestate = state
	return result
}
