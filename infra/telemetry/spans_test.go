package telemetry

import (
	"context"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/faasconv"
	"go.opentelemetry.io/otel/semconv/v1.43.0/httpconv"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"
	"go.opentelemetry.io/otel/trace"

	"github.com/ebb-dev/ebb/infra/fault"
)

// The names are those of OpenTelemetry's package of conventions.
func TestConventions(t *testing.T) {
	for name, key := range map[string]attribute.Key{
		errorType:        semconv.ErrorTypeKey,
		exceptionMessage: semconv.ExceptionMessageKey,
		httpMethod:       semconv.HTTPRequestMethodKey,
		httpRoute:        semconv.HTTPRouteKey,
		httpStatus:       semconv.HTTPResponseStatusCodeKey,
		urlPath:          semconv.URLPathKey,
		urlScheme:        semconv.URLSchemeKey,
		faasName:         semconv.FaaSNameKey,
		faasTrigger:      semconv.FaaSTriggerKey,
		faasColdStart:    semconv.FaaSColdstartKey,
		eventID:          semconv.CloudEventsEventIDKey,
		eventSource:      semconv.CloudEventsEventSourceKey,
		eventSpec:        semconv.CloudEventsEventSpecVersionKey,
		eventSubject:     semconv.CloudEventsEventSubjectKey,
		eventType:        semconv.CloudEventsEventTypeKey,
		msgSystem:        semconv.MessagingSystemKey,
		msgOperation:     semconv.MessagingOperationNameKey,
		msgKind:          semconv.MessagingOperationTypeKey,
		msgDestination:   semconv.MessagingDestinationNameKey,
		msgGroup:         semconv.MessagingConsumerGroupNameKey,
		msgID:            semconv.MessagingMessageIDKey,
		msgConversation:  semconv.MessagingMessageConversationIDKey,
		msgBodySize:      semconv.MessagingMessageBodySizeKey,
	} {
		if name != string(key) {
			t.Errorf("%s is %s in the conventions", name, key)
		}
	}
	for own, want := range map[attribute.KeyValue]attribute.KeyValue{
		attribute.String(faasTrigger, triggerHTTP):  semconv.FaaSTriggerHTTP,
		attribute.String(faasTrigger, triggerEvent): semconv.FaaSTriggerPubSub,
		attribute.String(msgKind, kindProcess):      semconv.MessagingOperationTypeProcess,
		attribute.String(msgKind, kindSend):         semconv.MessagingOperationTypeSend,
		attribute.String(httpMethod, other):         semconv.HTTPRequestMethodOther,
	} {
		if own != want {
			t.Errorf("%v is %v in the conventions", own, want)
		}
	}
	type named interface{ Name() string }
	for name, want := range map[string]named{
		metricHTTP:       httpconv.ServerRequestDuration{},
		metricProcess:    messagingconv.ProcessDuration{},
		metricSent:       messagingconv.ClientSentMessages{},
		metricInit:       faasconv.InitDuration{},
		metricColdStarts: faasconv.Coldstarts{},
	} {
		if name != want.Name() {
			t.Errorf("%s is %s in the conventions", name, want.Name())
		}
	}
}

func attributesOf(s tracetest.SpanStub) map[string]string {
	all := map[string]string{}
	for _, a := range s.Attributes {
		all[string(a.Key)] = a.Value.String()
	}
	return all
}

func wantAttributes(t *testing.T, s tracetest.SpanStub, want map[string]string) {
	t.Helper()
	got := attributesOf(s)
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s: %s is %q, want %q", s.Name, name, got[name], value)
		}
	}
	for name := range got {
		if _, known := want[name]; !known {
			t.Errorf("%s: has %s too: %q", s.Name, name, got[name])
		}
	}
}

// A request, the event that it emits and the delivery of that are three spans of one trace, and the delivery is linked
// to the publication, which was announced before it began.
func TestSpansOfARequestAndItsEvent(t *testing.T) {
	out := tracetest.NewInMemoryExporter()
	tel := start(t, Config{Spans: out})
	r := httptest.NewRequest("POST", "/api/orders?x=1", nil)
	place := Operation{Function: "orders", Method: "POST", Route: "/api/orders"}
	ctx, answered := tel.ServerSpan(t.Context(), place, r, true)
	event := Message{
		Type: "dev.ebb.orders.placed.v1", ID: "e1", Source: "/ebb/orders", SpecVersion: "1.0", Subject: "o1",
		Conversation: "c1", Size: 12,
	}
	announced := tel.Announce(ctx)
	received := WithTraceparent(context.Background(), announced.Traceparent())
	tel.PublishSpan(announced, "orders", event)(nil)
	answered(201, nil)
	_, processed := tel.ProcessSpan(received, "views", event, false)
	processed(fault.New(fault.Conflict, "taken"))

	spans := out.GetSpans()
	if len(spans) != 3 {
		t.Fatalf("got %d spans, want 3", len(spans))
	}
	publish, server, process := spans[0], spans[1], spans[2]
	for _, s := range spans {
		if s.SpanContext.TraceID() != server.SpanContext.TraceID() {
			t.Errorf("%s is in another trace", s.Name)
		}
	}
	if server.Name != "POST /api/orders" || server.SpanKind != trace.SpanKindServer {
		t.Errorf("got %s %v", server.Name, server.SpanKind)
	}
	wantAttributes(t, server, map[string]string{
		"http.request.method": "POST", "http.route": "/api/orders", "http.response.status_code": "201",
		"url.path": "/api/orders", "url.scheme": "http",
		"faas.name": "orders", "faas.trigger": "http", "faas.coldstart": "true",
	})
	ofEvent := func(more ...string) map[string]string {
		all := map[string]string{
			"messaging.system": "cloudevents", "messaging.destination.name": "dev.ebb.orders.placed.v1",
			"messaging.message.id": "e1", "messaging.message.conversation_id": "c1", "messaging.message.body.size": "12",
			"cloudevents.event_id": "e1", "cloudevents.event_source": "/ebb/orders", "cloudevents.event_spec_version": "1.0",
			"cloudevents.event_subject": "o1", "cloudevents.event_type": "dev.ebb.orders.placed.v1",
		}
		for pair := range slices.Chunk(more, 2) {
			all[pair[0]] = pair[1]
		}
		return all
	}
	if publish.Name != "publish dev.ebb.orders.placed.v1" || publish.SpanKind != trace.SpanKindProducer ||
		publish.Parent.SpanID() != server.SpanContext.SpanID() {
		t.Errorf("got %s %v below %v", publish.Name, publish.SpanKind, publish.Parent.SpanID())
	}
	wantAttributes(t, publish, ofEvent("messaging.operation.name", "publish", "messaging.operation.type", "send",
		"faas.name", "orders"))
	if process.Name != "process dev.ebb.orders.placed.v1" || process.SpanKind != trace.SpanKindConsumer ||
		process.Parent.SpanID() != publish.SpanContext.SpanID() {
		t.Errorf("got %s %v below %v", process.Name, process.SpanKind, process.Parent.SpanID())
	}
	wantAttributes(t, process, ofEvent("messaging.operation.name", "process", "messaging.operation.type", "process",
		"faas.name", "views", "faas.trigger", "pubsub", "faas.coldstart", "false",
		"messaging.consumer.group.name", "views", "error.type", "conflict"))
	if len(process.Links) != 1 || process.Links[0].SpanContext.SpanID() != publish.SpanContext.SpanID() {
		t.Errorf("the delivery has the links %v, want one to %v", process.Links, publish.SpanContext.SpanID())
	}
}

// Only what a server is to blame for is an error of its span.
func TestStatusOfServerSpans(t *testing.T) {
	for _, c := range []struct {
		status int
		err    error
		code   codes.Code
		cause  string
	}{
		{0, nil, codes.Unset, ""},
		{404, fault.New(fault.NotFound, "no order"), codes.Unset, ""},
		{500, nil, codes.Error, "500"},
		{503, fault.New(fault.Unavailable, "the store is away"), codes.Error, "unavailable"},
	} {
		out := tracetest.NewInMemoryExporter()
		tel := start(t, Config{Spans: out})
		r := httptest.NewRequest("GET", "/", nil)
		_, end := tel.ServerSpan(t.Context(), Operation{Method: "GET", Route: "/"}, r, false)
		end(c.status, c.err)
		s := out.GetSpans()[0]
		if got := attributesOf(s)["error.type"]; s.Status.Code != c.code || got != c.cause {
			t.Errorf("%d: got %v and error.type %q, want %v and %q", c.status, s.Status.Code, got, c.code, c.cause)
		}
	}
}

// The edge is no function of a platform: its spans have no trigger.
func TestSpansOfTheEdge(t *testing.T) {
	out := tracetest.NewInMemoryExporter()
	tel := start(t, Config{Spans: out})
	op := Operation{Function: "gateway", Method: "GET", Route: "/api/users/{id}", Edge: true}
	_, end := tel.ServerSpan(t.Context(), op, httptest.NewRequest("BREW", "/api/users/7", nil), false)
	end(200, nil)
	wantAttributes(t, out.GetSpans()[0], map[string]string{
		"http.request.method": "_OTHER", "http.route": "/api/users/{id}", "http.response.status_code": "200",
		"url.path": "/api/users/7", "url.scheme": "http", "faas.name": "gateway",
	})
}

// What is not recorded announces nothing.
func TestAnnounceWithoutARecordedSpan(t *testing.T) {
	off := vars("OTEL_TRACES_SAMPLER", "always_off")
	unsampled := start(t, Config{Spans: tracetest.NewInMemoryExporter(), Lookup: off})
	for name, tel := range map[string]*Telemetry{
		"nil": nil, "ids only": start(t, Config{}), "left out": unsampled,
	} {
		ctx, end := tel.Span(t.Context(), "x")
		a := tel.Announce(ctx)
		if got := a.Traceparent(); got != "" {
			t.Errorf("%s: announced %s", name, got)
		}
		tel.PublishSpan(a, "x", Message{})(nil)
		end(nil)
	}
}

// Texts of senders are cut and made valid: one invalid byte would make a collector refuse the batch.
func TestTextsOfSendersInSpans(t *testing.T) {
	c := newCollector(t)
	tel := start(t, Config{Lookup: vars("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL+"/otlp", "OTEL_METRICS_EXPORTER", "none")})
	hostile := "\xff\x00\n" + strings.Repeat("ä", 10000)
	_, end := tel.ProcessSpan(t.Context(), "f", Message{
		Type: other, ID: hostile, Source: hostile, SpecVersion: "1.0", Subject: hostile, Conversation: hostile,
	}, false)
	end(nil)
	r := httptest.NewRequest("GET", "/", nil)
	r.URL.Path = "/" + hostile
	_, answered := tel.ServerSpan(t.Context(), Operation{Function: "f", Method: "GET", Route: "/{x}"}, r, false)
	answered(200, nil)
	if err := tel.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.traces) != 1 || len(c.traces[0].ResourceSpans[0].ScopeSpans[0].Spans) != 2 {
		t.Fatalf("got %v", c.traces)
	}
	for _, s := range c.traces[0].ResourceSpans[0].ScopeSpans[0].Spans {
		for _, a := range s.Attributes {
			if text := a.Value.GetStringValue(); len(text) > maxShown+8 {
				t.Errorf("%s has %d bytes", a.Key, len(text))
			}
		}
	}
}
