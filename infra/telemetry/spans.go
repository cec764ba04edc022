package telemetry

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/ebb-dev/ebb/infra/fault"
)

// The attributes of spans and metrics, by the names of OpenTelemetry's semantic conventions. They are constants here
// because the package of the conventions makes hundreds of values whenever a process starts.
const (
	errorType        = "error.type"
	exceptionMessage = "exception.message"
	httpMethod       = "http.request.method"
	httpRoute        = "http.route"
	httpStatus       = "http.response.status_code"
	urlPath          = "url.path"
	urlScheme        = "url.scheme"
	faasName         = "faas.name"
	faasTrigger      = "faas.trigger"
	faasColdStart    = "faas.coldstart"
	eventID          = "cloudevents.event_id"
	eventSource      = "cloudevents.event_source"
	eventSpec        = "cloudevents.event_spec_version"
	eventSubject     = "cloudevents.event_subject"
	eventType        = "cloudevents.event_type"
	msgSystem        = "messaging.system"
	msgOperation     = "messaging.operation.name"
	msgKind          = "messaging.operation.type"
	msgDestination   = "messaging.destination.name"
	msgGroup         = "messaging.consumer.group.name"
	msgID            = "messaging.message.id"
	msgConversation  = "messaging.message.conversation_id"
	msgBodySize      = "messaging.message.body.size"
)

// The values of attributes that the conventions define.
const (
	triggerHTTP   = "http"
	triggerEvent  = "pubsub"
	kindProcess   = "process"
	kindSend      = "send"
	other         = "_OTHER" // a method or a kind that is not among those that are defined
	messageSystem = "cloudevents"
)

// The names of what is done with events.
const (
	opProcess = "process"
	opPublish = "publish"
)

// maxShown is the length in bytes of the longest text of a sender that a span has.
const maxShown = 256

// shown returns the beginning of a text that a sender wrote, as valid UTF-8: collectors refuse whole batches for other
// bytes.
func shown(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxShown)], "\uFFFD")
}

// Operation is an HTTP operation as spans show it.
type Operation struct {
	Function string
	Method   string // as it was declared
	Route    string // the path's pattern
	Edge     bool   // the function is the gateway, and what serves the operation is behind it
}

// ServerSpan begins the span of a request for an operation. With cold it is the first work of an instance. The function
// that it returns ends the span and must be called once, with the response's status, and the error that caused it if
// that is known. A status of 500 or more marks the span as failed.
//
// The span of the edge is part of the caller's trace, and the sampler decides about it as about a trace of its own:
// strangers, who choose the flag and the ids, would have everything exported, or nothing. Where every span is sampled
// by the id of its trace, it begins a trace, which is linked to the caller's.
func (t *Telemetry) ServerSpan(
	ctx context.Context, op Operation, r *http.Request, cold bool,
) (context.Context, func(status int, err error)) {
	var links []trace.Link
	if op.Edge {
		ctx, links = t.fromStranger(ctx)
	}
	if ctx, done := t.idsOnly(ctx); done {
		return ctx, endNoResponse
	}
	ctx, span := t.tracer.Start(ctx, op.Method+" "+op.Route, trace.WithSpanKind(trace.SpanKindServer),
		trace.WithLinks(links...))
	if span.IsRecording() {
		span.SetAttributes(attribute.String(httpMethod, known(r.Method)), attribute.String(httpRoute, op.Route),
			attribute.String(urlPath, shown(r.URL.Path)), attribute.String(urlScheme, schemeOf(r.TLS != nil)),
			attribute.String(faasName, op.Function))
		if !op.Edge {
			span.SetAttributes(attribute.String(faasTrigger, triggerHTTP), attribute.Bool(faasColdStart, cold))
		}
	}
	return ctx, func(status int, err error) { endResponse(span, status, err) }
}

func endNoResponse(int, error) {}

func endResponse(span trace.Span, status int, err error) {
	if span.IsRecording() {
		status = cmp.Or(status, http.StatusOK) // what the server sends where a handler names none
		span.SetAttributes(attribute.Int(httpStatus, status))
		if status >= http.StatusInternalServerError {
			cause, text := strconv.Itoa(status), ""
			if err != nil {
				cause, text = fault.KindOf(err).String(), fault.Public(err)
			}
			span.SetAttributes(attribute.String(errorType, cause))
			span.SetStatus(codes.Error, text)
		}
	}
	span.End()
}

// Message is an event as spans show it.
type Message struct {
	Type         string // as metrics show it: a type that is known, or "_OTHER"
	ID, Source   string
	SpecVersion  string
	Subject      string
	Conversation string // the correlation id
	Size         int    // of the data in bytes
}

func (m Message) attributes(function, operation, kind string) []attribute.KeyValue {
	all := append(make([]attribute.KeyValue, 0, 16),
		attribute.String(msgSystem, messageSystem), attribute.String(msgOperation, operation),
		attribute.String(msgKind, kind), attribute.String(msgDestination, m.Type),
		attribute.String(msgID, shown(m.ID)), attribute.Int(msgBodySize, m.Size),
		attribute.String(eventID, shown(m.ID)), attribute.String(eventSource, shown(m.Source)),
		attribute.String(eventSpec, m.SpecVersion), attribute.String(eventType, m.Type),
		attribute.String(faasName, function))
	if m.Subject != "" {
		all = append(all, attribute.String(eventSubject, shown(m.Subject)))
	}
	if m.Conversation != "" {
		all = append(all, attribute.String(msgConversation, shown(m.Conversation)))
	}
	return all
}

// ProcessSpan begins the span of the delivery of an event to a function, as a part of the trace that ctx has from the
// event, with a link to the span that the event names: the one that published it. The function that it returns ends the
// span and must be called once.
func (t *Telemetry) ProcessSpan(
	ctx context.Context, function string, m Message, cold bool,
) (context.Context, func(err error)) {
	if ctx, done := t.idsOnly(ctx); done {
		return ctx, endNothing
	}
	sent := trace.SpanContextFromContext(ctx)
	ctx, span := t.tracer.Start(ctx, opProcess+" "+m.Type, trace.WithSpanKind(trace.SpanKindConsumer))
	if span.IsRecording() {
		if sent.IsValid() {
			span.AddLink(trace.Link{SpanContext: sent})
		}
		span.SetAttributes(m.attributes(function, opProcess, kindProcess)...)
		span.SetAttributes(attribute.String(msgGroup, function), attribute.String(faasTrigger, triggerEvent),
			attribute.Bool(faasColdStart, cold))
	}
	return ctx, func(err error) { end(span, err) }
}

// ClientSpan begins the span of a call to a service outside of the system. The function that it returns ends the span
// and must be called once.
func (t *Telemetry) ClientSpan(ctx context.Context, function, name string) (context.Context, func(err error)) {
	if ctx, done := t.idsOnly(ctx); done {
		return ctx, endNothing
	}
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() {
		span.SetAttributes(attribute.String(faasName, function))
	}
	return ctx, func(err error) { end(span, err) }
}

// idsOnly returns a context whose span has ids only, where spans are not exported, or where the sampler leaves it out
// for sure, which is cheaper to find out here; with a zero Telemetry it has none.
func (t *Telemetry) idsOnly(ctx context.Context) (_ context.Context, done bool) {
	switch {
	case t.off():
		return ctx, true
	case t.tracer == nil || t.inherits && !isStrangers(ctx) && leftOut(trace.SpanContextFromContext(ctx)):
		return trace.ContextWithSpan(ctx, newIDSpan(trace.SpanContextFromContext(ctx))), true
	}
	return ctx, false
}

// leftOut reports whether a sampler that follows the parent leaves out its children.
func leftOut(parent trace.SpanContext) bool { return parent.IsValid() && !parent.IsSampled() }

// Exports reports whether spans are exported.
func (t *Telemetry) Exports() bool { return !t.off() && t.tracer != nil }

// Announced is the span of a publication that has its ids before it begins: an event has the ids when it is committed,
// and is published later.
type Announced struct {
	span, parent trace.SpanContext
}

// Announce returns the span that will publish an event which the work in ctx emits. It is zero where the span of ctx is
// not recorded; then the event belongs to that span.
func (t *Telemetry) Announce(ctx context.Context) Announced {
	if !t.Exports() {
		return Announced{}
	}
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return Announced{}
	}
	sc := parent.SpanContext()
	return Announced{span: sc.WithSpanID(newSpanID()), parent: sc}
}

// Traceparent returns the ids of the span in the form of W3C Trace Context; "" for a zero one.
func (a Announced) Traceparent() string { return traceparent(a.span) }

// PublishSpan begins the span that was announced. The function that it returns ends the span and must be called once.
func (t *Telemetry) PublishSpan(a Announced, function string, m Message) func(err error) {
	if !t.Exports() || !a.span.IsValid() {
		return endNothing
	}
	ctx := context.WithValue(context.Background(), announcedKey{}, a.span.SpanID())
	_, span := t.tracer.Start(trace.ContextWithSpanContext(ctx, a.parent), opPublish+" "+m.Type,
		trace.WithSpanKind(trace.SpanKindProducer))
	if span.IsRecording() {
		span.SetAttributes(m.attributes(function, opPublish, kindSend)...)
	}
	return func(err error) { end(span, err) }
}

// announcedKey is the key of the id that the next span has.
type announcedKey struct{}

// ids makes the ids of spans: that of the context, if it has one, or else random ones.
type ids struct{}

// NewIDs implements sdktrace.IDGenerator.
func (ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	return newTraceID(), ids{}.NewSpanID(ctx, trace.TraceID{})
}

// NewSpanID implements sdktrace.IDGenerator.
func (ids) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	if id, ok := ctx.Value(announcedKey{}).(trace.SpanID); ok {
		return id
	}
	return newSpanID()
}
