package telemetry

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Span begins a span named after package and operation, such as "orders.place". The function that it returns ends the
// span and must be called once; an error marks the span as failed, with the kind and the public message of the fault.
// The cause is in the log, with the same trace id.
//
// Without an exporter a span has ids only: a child has the trace of its parent and its sampling decision.
func (t *Telemetry) Span(
	ctx context.Context, name string, attrs ...attribute.KeyValue,
) (context.Context, func(err error)) {
	if ctx, done := t.idsOnly(ctx); done {
		return ctx, endNothing
	}
	// A clone, so that the attributes of callers above stay on their stacks.
	ctx, span := t.tracer.Start(ctx, name, trace.WithAttributes(slices.Clone(attrs)...))
	return ctx, func(err error) { end(span, err) }
}

func endNothing(error) {}

func end(span trace.Span, err error) {
	if err != nil && span.IsRecording() {
		span.SetAttributes(attribute.String(errorType, fault.KindOf(err).String()))
		span.SetStatus(codes.Error, fault.Public(err))
	}
	span.End()
}

// traceparentLen is the length of version 00 of the header: 00-<32>-<16>-<2>.
const traceparentLen = 55

// Traceparent returns the span of ctx in the form of W3C Trace Context, for the header and the CloudEvents attribute of
// that name; "" when ctx has none.
func Traceparent(ctx context.Context) string {
	return traceparent(trace.SpanContextFromContext(ctx))
}

func traceparent(sc trace.SpanContext) string {
	if !sc.IsValid() {
		return ""
	}
	id, span := sc.TraceID(), sc.SpanID()
	var b [traceparentLen]byte
	b[0], b[1], b[2], b[35], b[52] = '0', '0', '-', '-', '-'
	hex.Encode(b[3:], id[:])
	hex.Encode(b[36:], span[:])
	hex.Encode(b[53:], []byte{byte(sc.TraceFlags())})
	return string(b[:])
}

// Tracestate returns the vendors' part of the span of ctx in the form of W3C Trace Context; "" when it has none.
func Tracestate(ctx context.Context) string {
	return trace.SpanContextFromContext(ctx).TraceState().String()
}

// WithTraceparent returns a context whose next span continues the trace of a received traceparent. One that is
// malformed is ignored, as W3C Trace Context section 3.2 requires: the next span then begins a trace.
func WithTraceparent(ctx context.Context, traceparent string) context.Context {
	return WithTrace(ctx, traceparent, "")
}

// WithTrace does the same, with the tracestate that was received beside the traceparent. A malformed one is ignored.
func WithTrace(ctx context.Context, traceparent, tracestate string) context.Context {
	if traceparent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, header{traceparent, tracestate})
}

// header is a carrier that has a traceparent and a tracestate only.
type header struct{ parent, state string }

func (h header) Get(key string) string {
	switch key {
	case "traceparent":
		return h.parent
	case "tracestate":
		return h.state
	}
	return ""
}
func (h header) Set(string, string) {}
func (h header) Keys() []string     { return []string{"traceparent", "tracestate"} }

// idSpan is a span that has ids and records nothing.
type idSpan struct {
	tracenoop.Span
	sc trace.SpanContext
}

// newTraceID returns a random id, as W3C Trace Context requires. It is not secret, so the fast generator is enough.
func newTraceID() (id trace.TraceID) {
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:8], rand.Uint64())
		binary.NativeEndian.PutUint64(id[8:], rand.Uint64())
	}
	return id
}

// newSpanID returns a random id.
func newSpanID() (id trace.SpanID) {
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}

// newIDSpan returns a child of parent, or the root of a new trace. A new trace is not recorded, so it is not flagged as
// sampled.
func newIDSpan(parent trace.SpanContext) idSpan {
	id := parent.TraceID()
	if !id.IsValid() {
		id = newTraceID()
	}
	return idSpan{sc: trace.NewSpanContext(trace.SpanContextConfig{
		TraceID:    id,
		SpanID:     newSpanID(),
		TraceFlags: parent.TraceFlags(),
		TraceState: parent.TraceState(),
	})}
}

func (s idSpan) SpanContext() trace.SpanContext       { return s.sc }
func (s idSpan) TracerProvider() trace.TracerProvider { return idProvider{} }

type idProvider struct{ tracenoop.TracerProvider }

func (idProvider) Tracer(string, ...trace.TracerOption) trace.Tracer { return idTracer{} }

type idTracer struct{ tracenoop.Tracer }

func (idTracer) Start(ctx context.Context, _ string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	parent := trace.SpanContextFromContext(ctx)
	if c := trace.NewSpanStartConfig(options...); c.NewRoot() {
		parent = trace.SpanContext{}
	}
	span := newIDSpan(parent)
	return trace.ContextWithSpan(ctx, span), span
}
