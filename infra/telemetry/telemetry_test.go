package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	collectorlogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortraces "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/ebb-dev/ebb/infra/fault"
)

func vars(pairs ...string) func(string) (string, bool) {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(key string) (string, bool) { v, ok := m[key]; return v, ok }
}

func start(t testing.TB, c Config) *Telemetry {
	t.Helper()
	if c.Log == nil {
		c.Log = io.Discard
	}
	tel, err := Start(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tel.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return tel
}

func scrape(t *testing.T, tel *Telemetry) string {
	t.Helper()
	w := httptest.NewRecorder()
	scrape := httptest.NewRequest("GET", "http://localhost/metrics", nil)
	scrape.RemoteAddr = "127.0.0.1:40000"
	tel.MetricsHandler().ServeHTTP(w, scrape)
	if w.Code != http.StatusOK {
		t.Fatalf("scrape: %d", w.Code)
	}
	return w.Body.String()
}

func record(tel *Telemetry) {
	ctx := context.Background()
	tel.HTTP(ctx, Request{Function: "orders", Route: "/api/orders/{id}", Method: "GET"}, 20*time.Millisecond)
	tel.HTTP(ctx, Request{Function: "orders", Route: "/api/orders/{id}", Method: "BREW", Status: 404}, time.Millisecond)
	tel.Handled(ctx, "orders", "dev.ebb.payments.captured.v1", "ok", 3*time.Millisecond)
	tel.Handled(ctx, "orders", "dev.ebb.payments.captured.v1", fault.Conflict.String(), time.Millisecond)
	tel.ColdStart("orders", 30*time.Millisecond)
	tel.ColdStart("orders", 30*time.Millisecond)
	tel.Stopped("orders")
	tel.Retried("orders.captured")
	tel.DeadLettered("orders.captured")
	tel.Paused("orders.captured", true)
	tel.Paused("orders.placed", true)
	tel.Paused("orders.placed", false)
	tel.Duplicate("orders")
	tel.Conflict("orders")
	tel.Published("orders", 3)
	tel.Published("orders", 0)
	tel.OutboxAge("orders", 2*time.Second)
	tel.OutboxAge("orders", 0)
	tel.OutboxQuarantined("orders", 2)
	tel.Age("order", "confirmed", 90*time.Second)
	tel.Age("Stock Hold", "released", time.Second)
}

func TestMetrics(t *testing.T) {
	tel := start(t, Config{Service: "shop", Version: "1"})
	record(tel)
	page := scrape(t, tel)
	for _, line := range []string{
		`http_server_request_duration_seconds_count{function="orders",http_request_method="GET",` +
			`http_response_status_code="200",http_route="/api/orders/{id}",url_scheme="http"} 1`,
		`http_server_request_duration_seconds_count{function="orders",http_request_method="_OTHER",` +
			`http_response_status_code="404",http_route="/api/orders/{id}",url_scheme="http"} 1`,
		`messaging_process_duration_seconds_bucket{function="orders",` +
			`messaging_destination_name="dev.ebb.payments.captured.v1",messaging_operation_name="process",` +
			`messaging_system="cloudevents",le="0.005"} 1`,
		`messaging_process_duration_seconds_count{error_type="conflict",function="orders",` +
			`messaging_destination_name="dev.ebb.payments.captured.v1",messaging_operation_name="process",` +
			`messaging_system="cloudevents"} 1`,
		`faas_coldstarts_total{function="orders"} 2`,
		`faas_init_duration_seconds_count{function="orders"} 2`,
		`ebb_stops_total{function="orders"} 1`,
		`ebb_functions_running{function="orders"} 1`,
		`ebb_retries_total{trigger="orders.captured"} 1`,
		`ebb_dead_letters_total{trigger="orders.captured"} 1`,
		`ebb_triggers_paused{trigger="orders.captured"} 1`, `ebb_triggers_paused{trigger="orders.placed"} 0`,
		`ebb_duplicates_total{function="orders"} 1`,
		`ebb_conflicts_total{function="orders"} 1`,
		`ebb_outbox_quarantined{function="orders"} 2`,
		`messaging_client_sent_messages_total{function="orders",messaging_operation_name="publish",` +
			`messaging_system="cloudevents"} 3`,
		`ebb_outbox_age_seconds_sum{function="orders"} 2`,
		`ebb_outbox_age_seconds_count{function="orders"} 1`,
		`ebb_outbox_oldest_age_seconds{function="orders"} 0`,
		`ebb_order_age_seconds_sum{outcome="confirmed"} 90`,
		`ebb_stock_hold_age_seconds_count{outcome="released"} 1`,
		`target_info{service_name="shop",service_version="1",`,
		"\ngo_goroutines ", "\nprocess_start_time_seconds ",
	} {
		if !strings.Contains(page, line) {
			t.Errorf("missing: %s", line)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(page) {
			if strings.HasPrefix(line, "ebb_") || strings.HasPrefix(line, "target") {
				t.Log(line)
			}
		}
	}
}

func TestTwoOfThemDoNotMix(t *testing.T) {
	a, b := start(t, Config{}), start(t, Config{})
	a.Duplicate("orders")
	if strings.Contains(scrape(t, b), "ebb_duplicates_total") {
		t.Error("what one recorded shows in the other")
	}
}

func TestLabelsAreBounded(t *testing.T) {
	tel := start(t, Config{})
	for i := range maxLabels + 10 {
		tel.HTTP(t.Context(), Request{Function: "f", Route: "/", Method: "GET", Status: i + 1}, 0)
	}
	if got := len(*tel.metrics.requests.all.Load()); got != maxLabels {
		t.Errorf("%d sets of labels are kept; want %d", got, maxLabels)
	}
}

func TestRecordConcurrently(t *testing.T) {
	tel := start(t, Config{})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				record(tel)
			}
		})
	}
	all.Wait()
	if page := scrape(t, tel); !strings.Contains(page, `messaging_client_sent_messages_total{function="orders",`+
		`messaging_operation_name="publish",messaging_system="cloudevents"} 1200`) {
		t.Error("something was lost")
	}
}

func TestDiscard(t *testing.T) {
	for name, tel := range map[string]*Telemetry{"nil": Discard(), "zero": {}} {
		t.Run(name, func(t *testing.T) {
			record(tel)
			ctx, end := tel.Span(context.Background(), "a.b", attribute.Int("n", 1))
			end(errors.New("x"))
			tel.Logger("f").ErrorContext(ctx, "nobody hears this")
			_, span := tel.Tracer().Start(ctx, "x")
			span.End()
			if c, err := tel.Meter().Int64Counter("x"); err != nil {
				t.Error(err)
			} else {
				c.Add(ctx, 1)
			}
			w := httptest.NewRecorder()
			scrape := httptest.NewRequest("GET", "http://localhost/metrics", nil)
			scrape.RemoteAddr = "127.0.0.1:40000"
			tel.MetricsHandler().ServeHTTP(w, scrape)
			if err := errors.Join(tel.Flush(ctx), tel.Shutdown(ctx), tel.Shutdown(ctx)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTraceIsContinued(t *testing.T) {
	const from = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for name, tel := range map[string]*Telemetry{
		"ids only": start(t, Config{}),
		"exported": start(t, Config{Spans: tracetest.NewInMemoryExporter()}),
	} {
		t.Run(name, func(t *testing.T) {
			ctx := WithTraceparent(context.Background(), from)
			if got := Traceparent(ctx); got != from {
				t.Errorf("it came in as %s", got)
			}
			ctx, end := tel.Span(ctx, "a.b")
			defer end(nil)
			here := Traceparent(ctx)
			if here[:36] != from[:36] || here[36:52] == from[36:52] || here[52:] != "-01" {
				t.Errorf("%s does not continue %s", here, from)
			}
			_, inner := tel.Tracer().Start(WithTraceparent(context.Background(), here), "c.d")
			defer inner.End()
			if got := inner.SpanContext().TraceID().String(); got != from[3:35] {
				t.Errorf("in the next process the trace is %s", got)
			}
			_, deeper := inner.TracerProvider().Tracer("x").Start(trace.ContextWithSpan(ctx, inner), "e.f")
			defer deeper.End()
			if got := deeper.SpanContext(); got.TraceID().String() != from[3:35] ||
				got.SpanID() == inner.SpanContext().SpanID() {
				t.Errorf("a library's own span is %v", got)
			}
		})
	}
}

func TestTraceBegins(t *testing.T) {
	tel := start(t, Config{})
	for _, wrong := range []string{
		"", "x", "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
		"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
	} {
		ctx := WithTraceparent(context.Background(), wrong)
		if got := Traceparent(ctx); got != "" {
			t.Errorf("%q was taken as %s", wrong, got)
		}
		a, _ := tel.Span(ctx, "a.b")
		b, _ := tel.Span(ctx, "a.b")
		one, two := Traceparent(a), Traceparent(b)
		if len(one) != traceparentLen || !strings.HasSuffix(one, "-00") || one[:36] == two[:36] {
			t.Errorf("two new traces: %s, %s", one, two)
		}
	}
	parent, _ := tel.Span(context.Background(), "a.b")
	if _, root := tel.Tracer().Start(parent, "x", trace.WithNewRoot()); root.SpanContext().
		TraceID() ==
		trace.SpanContextFromContext(parent).
			TraceID() {
		t.Error("a new root continues its parent's trace")
	}
}

func TestSpanRecordsTheKindOfFault(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	tel := start(t, Config{Service: "shop", Spans: spans})
	ctx, outer := tel.Span(context.Background(), "orders.place", attribute.String("function", "orders"))
	_, inner := tel.Span(ctx, "store.commit")
	inner(fault.Wrap(errors.New("dial tcp 10.0.0.1: password hunter2"), fault.Unavailable, "the store does not answer"))
	outer(nil)

	got := spans.GetSpans()
	if len(got) != 2 {
		t.Fatalf("%d spans; want 2", len(got))
	}
	failed, fine := got[0], got[1]
	if failed.Name != "store.commit" || failed.Parent.SpanID() != fine.SpanContext.SpanID() {
		t.Errorf("%s is not the child of %s", failed.Name, fine.Name)
	}
	if failed.Status.Code != codes.Error || failed.Status.Description != "the store does not answer" {
		t.Errorf("status = %+v", failed.Status)
	}
	if want := attribute.String("error.type", "unavailable"); len(failed.Attributes) != 1 || failed.Attributes[0] != want {
		t.Errorf("attributes = %v; want %v", failed.Attributes, want)
	}
	if fine.Status.Code != codes.Unset || fine.Attributes[0].Value.AsString() != "orders" {
		t.Errorf("%+v", fine)
	}
}

func TestSampler(t *testing.T) {
	const sampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	const unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
	for _, test := range []struct {
		sampler, arg, parent string
		exported             int
	}{
		{"", "", "", 1},
		{"", "", sampled, 1},
		{"", "", unsampled, 0},
		{"always_on", "", unsampled, 1},
		{"always_off", "", sampled, 0},
		{"parentbased_always_off", "", "", 0},
		{"parentbased_always_off", "", sampled, 1},
		{"traceidratio", "0", "", 0},
		{"traceidratio", "1", "", 1},
		{"parentbased_traceidratio", "0", sampled, 1},
	} {
		spans := tracetest.NewInMemoryExporter()
		tel := start(
			t,
			Config{Spans: spans, Lookup: vars("OTEL_TRACES_SAMPLER", test.sampler, "OTEL_TRACES_SAMPLER_ARG", test.arg)},
		)
		_, end := tel.Span(WithTraceparent(context.Background(), test.parent), "a.b")
		end(nil)
		if got := len(spans.GetSpans()); got != test.exported {
			t.Errorf("%+v: %d exported", test, got)
		}
	}
}

// collector is a small OTLP/HTTP receiver.
type collector struct {
	*httptest.Server
	mu      sync.Mutex
	key     string
	traces  []*collectortraces.ExportTraceServiceRequest
	metrics []*collectormetrics.ExportMetricsServiceRequest
	logs    []*collectorlogs.ExportLogsServiceRequest
}

func newCollector(t *testing.T) *collector {
	c := &collector{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /otlp/v1/traces", func(w http.ResponseWriter, r *http.Request) {
		m := &collectortraces.ExportTraceServiceRequest{}
		c.read(t, r, m)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.traces, c.key = append(c.traces, m), r.Header.Get("api-key")
	})
	mux.HandleFunc("POST /otlp/v1/metrics", func(w http.ResponseWriter, r *http.Request) {
		m := &collectormetrics.ExportMetricsServiceRequest{}
		c.read(t, r, m)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.metrics = append(c.metrics, m)
	})
	mux.HandleFunc("POST /otlp/v1/logs", func(_ http.ResponseWriter, r *http.Request) {
		m := &collectorlogs.ExportLogsServiceRequest{}
		c.read(t, r, m)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.logs = append(c.logs, m)
	})
	c.Server = httptest.NewServer(mux)
	t.Cleanup(c.Close)
	return c
}

func (c *collector) read(t *testing.T, r *http.Request, m proto.Message) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = proto.Unmarshal(body, m)
	}
	if err != nil {
		t.Errorf("%s: %v", r.URL.Path, err)
	}
}

func TestExport(t *testing.T) {
	c := newCollector(t)
	tel := start(t, Config{Service: "shop", Version: "1", Lookup: vars(
		"OTEL_EXPORTER_OTLP_ENDPOINT", c.URL+"/otlp/", "OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b",
		"OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test", "OTEL_SERVICE_NAME", "ebb",
	)})
	ctx, end := tel.Span(context.Background(), "orders.place")
	end(nil)
	tel.Duplicate("orders")
	if err := tel.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.traces) != 1 || len(c.metrics) != 1 {
		t.Fatalf("%d of traces, %d of metrics; want one each", len(c.traces), len(c.metrics))
	}
	if c.key != "a b" {
		t.Errorf("api-key = %q", c.key)
	}
	of := c.traces[0].ResourceSpans[0]
	span := of.ScopeSpans[0].Spans[0]
	if id := trace.SpanContextFromContext(ctx).TraceID(); span.Name != "orders.place" ||
		!bytes.Equal(span.TraceId, id[:]) {
		t.Errorf("span = %v", span)
	}
	about := of.Resource.String()
	for _, want := range []string{"service.name", `"ebb"`, "service.version", "deployment.environment"} {
		if !strings.Contains(about, want) {
			t.Errorf("the resource lacks %s: %s", want, about)
		}
	}
	if all := c.metrics[0].String(); !strings.Contains(all, "ebb.duplicates") {
		t.Errorf("metrics = %s", all)
	}
}

func TestExportOnlyWhenAsked(t *testing.T) {
	const at = "http://collector:4318"
	for _, test := range []struct {
		vars            []string
		traces, metrics string
	}{
		{nil, "", ""},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", ""}, "", ""},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", at}, at + "/v1/traces", at + "/v1/metrics"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", at, "OTEL_METRICS_EXPORTER", "none"}, at + "/v1/traces", ""},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", at, "OTEL_METRICS_EXPORTER", "prometheus"}, at + "/v1/traces", ""},
		{
			[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", at, "OTEL_METRICS_EXPORTER", "prometheus, otlp"},
			at + "/v1/traces", at + "/v1/metrics",
		},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", at, "OTEL_SDK_DISABLED", "true"}, "", ""},
		{[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", at + "/mine"}, at + "/mine", ""},
		{[]string{"OTEL_TRACES_EXPORTER", "otlp"}, "http://localhost:4318/v1/traces", ""},
	} {
		x, err := environment(vars(test.vars...)).exports()
		if err != nil {
			t.Errorf("%v: %v", test.vars, err)
			continue
		}
		if got := urlOf(x.traces); got != test.traces {
			t.Errorf("%v: traces go to %q; want %q", test.vars, got, test.traces)
		}
		if got := urlOf(x.metrics); got != test.metrics {
			t.Errorf("%v: metrics go to %q; want %q", test.vars, got, test.metrics)
		}
	}
}

func urlOf(p *endpoint) string {
	if p == nil {
		return ""
	}
	return p.url
}

func TestStartNamesEveryWrongVariable(t *testing.T) {
	_, err := Start(context.Background(), Config{Log: io.Discard, Lookup: vars(
		"EBB_LOG_LEVEL",
		"loud",
		"OTEL_TRACES_EXPORTER",
		"jaeger",
		"OTEL_TRACES_SAMPLER",
		"traceidratio",
		"OTEL_TRACES_SAMPLER_ARG",
		"NaN",
		"OTEL_METRICS_EXPORTER",
		"otlp",
		"OTEL_EXPORTER_OTLP_ENDPOINT",
		"collector:4318",
		"OTEL_EXPORTER_OTLP_HEADERS",
		"hunter2",
		"OTEL_EXPORTER_OTLP_TIMEOUT",
		"1s",
	)})
	for _, want := range []string{
		"EBB_LOG_LEVEL", "OTEL_TRACES_EXPORTER", "OTEL_TRACES_SAMPLER_ARG",
		"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TIMEOUT",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named in: %v", want, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), "hunter2") {
		t.Error("a header shows")
	}
	for _, pair := range [][2]string{
		{"OTEL_TRACES_SAMPLER", "jaeger_remote"}, {"EBB_LOG_FORMAT", "xml"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "http:///v1"}, {"OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"},
	} {
		if _, err := Start(context.Background(), Config{Log: io.Discard, Lookup: vars(pair[0], pair[1])}); err == nil ||
			!strings.Contains(err.Error(), pair[0]) {
			t.Errorf("%v: %v", pair, err)
		}
	}
	grpc := vars("OTEL_TRACES_EXPORTER", "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	if _, err := Start(context.Background(), Config{Log: io.Discard, Lookup: grpc}); err == nil {
		t.Error("grpc is promised")
	}
}

// The errors of a collector that refuses everything are logged and come back from Flush, those of each signal, and
// OpenTelemetry's error handler, which all of a process share, stays as it is and hears of none.
func TestExportErrorsAreLogged(t *testing.T) {
	var others atomic.Int64
	before := otel.GetErrorHandler()
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) { others.Add(1) }))
	t.Cleanup(func() { otel.SetErrorHandler(before) })
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "refused "+r.URL.Path, http.StatusBadRequest)
	}))
	defer refusing.Close()
	var log safeBuffer
	tel, err := Start(t.Context(), Config{Log: &log, Lookup: vars("OTEL_EXPORTER_OTLP_ENDPOINT", refusing.URL)})
	if err != nil {
		t.Fatal(err)
	}
	_, end := tel.Span(t.Context(), "a.b")
	end(nil)
	tel.Duplicate("f")
	tel.Logger("f").Info("x")
	if err := tel.Flush(t.Context()); err == nil {
		t.Error("Flush returned no error")
	}
	for _, signal := range []string{"traces", "metrics", "logs"} {
		if !strings.Contains(log.String(), "refused /v1/"+signal) {
			t.Errorf("nothing about %s in the log: %s", signal, log.String())
		}
	}
	if n := others.Load(); n != 0 {
		t.Errorf("the handler of the process got %d errors", n)
	}
}

func TestACollectorThatIsDownStopsNobody(t *testing.T) {
	var log safeBuffer
	tel, err := Start(
		context.Background(),
		Config{
			Log: &log,
			Lookup: vars(
				"OTEL_TRACES_EXPORTER",
				"otlp",
				"OTEL_EXPORTER_OTLP_ENDPOINT",
				"http://127.0.0.1:1",
				"OTEL_EXPORTER_OTLP_TIMEOUT",
				"50",
			),
		},
	)
	if err != nil {
		t.Fatal(err)
	}
	_, end := tel.Span(context.Background(), "a.b")
	end(nil)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := tel.Shutdown(ctx); err == nil && !strings.Contains(log.String(), "telemetry is not exported") {
		t.Error("nobody was told that the spans are lost")
	}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func logged(t *testing.T, b *bytes.Buffer) map[string]any {
	t.Helper()
	line := map[string]any{}
	if err := json.Unmarshal(b.Bytes(), &line); err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	b.Reset()
	return line
}

func TestLogLine(t *testing.T) {
	var out bytes.Buffer
	tel := start(t, Config{Log: &out})
	ctx, end := tel.Span(WithFunction(WithCorrelation(context.Background(), "c-1"), "views"), "a.b")
	defer end(nil)
	sc := trace.SpanContextFromContext(ctx)

	tel.Logger("orders").With("a", 1).WithGroup("g").With("b", 2).WithGroup("").InfoContext(ctx, "placed", "c", 3)
	text := out.String()
	line := logged(t, &out)
	for key, want := range map[string]any{
		"msg": "placed", "level": "INFO", "function": "orders", "correlation_id": "c-1",
		"trace_id": sc.TraceID().String(), "span_id": sc.SpanID().String(), "a": 1.0,
	} {
		if line[key] != want {
			t.Errorf("%s = %v; want %v", key, line[key], want)
		}
	}
	if g, _ := line["g"].(map[string]any); g["b"] != 2.0 || g["c"] != 3.0 || len(g) != 2 {
		t.Errorf("g = %v", line["g"])
	}
	if strings.Count(text, `"function"`) != 1 {
		t.Errorf("the function is there more than once: %s", text)
	}

	tel.Logger("").InfoContext(ctx, "heard")
	if line := logged(t, &out); line["function"] != "views" || line["trace_id"] != sc.TraceID().String() {
		t.Errorf("%v", line)
	}
	tel.Logger("").Info("nobody in particular")
	if line := logged(t, &out); line["trace_id"] != nil || line["function"] != nil || line["correlation_id"] != nil {
		t.Errorf("%v", line)
	}
}

func TestAGroupWithoutNameIsNone(t *testing.T) {
	h := contextHandler{base: slog.DiscardHandler}
	if got := h.WithGroup("").(contextHandler); len(got.then) != 0 {
		t.Error("a group was opened")
	}
}

func TestLogLevel(t *testing.T) {
	for level, lines := range map[string]int{"": 3, "debug": 4, "info": 3, "WARN": 2, "error": 1} {
		var out bytes.Buffer
		log := start(t, Config{Log: &out, Lookup: vars("EBB_LOG_LEVEL", level)}).Logger("f")
		log.Debug("1")
		log.Info("2")
		log.Warn("3")
		log.Error("4")
		if got := strings.Count(out.String(), "\n"); got != lines {
			t.Errorf("%q: %d lines; want %d", level, got, lines)
		}
	}
}

// A second writer gets JSON from info on, whatever the first is and leaves out.
func TestLogCopy(t *testing.T) {
	for level, want := range map[string]string{"": "2 3", "warn": "2 3", "error": "2 3", "debug": "1 2 3"} {
		var out, also bytes.Buffer
		log := start(t, Config{Log: &out, Copy: &also,
			Lookup: vars("EBB_LOG_LEVEL", level, "EBB_LOG_FORMAT", "text")}).Logger("f")
		log.Debug("1")
		log.Info("2")
		log.Warn("3")
		var got []string
		for line := range strings.Lines(also.String()) {
			var l struct{ Msg, Function string }
			if err := json.Unmarshal([]byte(line), &l); err != nil || l.Function != "f" {
				t.Errorf("%q: %q: %v", level, line, err)
			}
			got = append(got, l.Msg)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: got %v, want %s", level, got, want)
		}
		if level == "error" && out.Len() > 0 {
			t.Errorf("the first writer got %s", &out)
		}
	}
}

func TestTextLine(t *testing.T) {
	var out bytes.Buffer
	tel := start(t, Config{Log: &out, Lookup: vars("EBB_LOG_FORMAT", "text")})
	ctx := WithCorrelation(
		WithTraceparent(context.Background(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
		"c-1",
	)
	tel.Logger("orders").
		With("order", "o 1").
		WithGroup("g").
		WarnContext(ctx, "no stock\nERR forged \x1b[31m",
			"n", 2, slog.Group("h", "k", "a=b\n"), "d", time.Second, "e", "\x1b[0m")
	_, rest, _ := strings.Cut(out.String(), " ")
	want := `WRN orders         no stock\nERR forged \x1b[31m  order="o 1" trace=4bf92f35 correlation_id=c-1 ` +
		`g.n=2 g.h.k="a=b\n" g.d=1s g.e="\x1b[0m"` + "\n"
	if rest != want {
		t.Errorf("got\n%swant\n%s", rest, want)
	}
	out.Reset()
	tel.Logger("").InfoContext(WithFunction(ctx, "views"), "heard")
	if !strings.Contains(out.String(), "INF views          heard ") || strings.Contains(out.String(), "function=") {
		t.Errorf("%q", out.String())
	}
}

func TestTextIsColouredOnlyWhenTold(t *testing.T) {
	var out bytes.Buffer
	slog.New(newTextHandler(&out, slog.LevelInfo, true)).Error("x", "k", "v")
	if !strings.Contains(out.String(), red+"ERR"+reset) {
		t.Errorf("%q", out.String())
	}
	out.Reset()
	slog.New(newTextHandler(&out, slog.LevelInfo, false)).Error("x", "k", "v")
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("%q", out.String())
	}
}

func BenchmarkSpan(b *testing.B) {
	parent := WithTraceparent(context.Background(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	for name, tel := range map[string]*Telemetry{
		"discard":   Discard(),
		"ids only":  start(b, Config{}),
		"unsampled": start(b, Config{Spans: tracetest.NewNoopExporter(), Lookup: vars("OTEL_TRACES_SAMPLER", "always_off")}),
		"exported":  start(b, Config{Spans: tracetest.NewNoopExporter()}),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, end := tel.Span(parent, "orders.place", attribute.String("function", "orders"))
				end(nil)
			}
		})
	}
}

func BenchmarkHandled(b *testing.B) {
	tel := start(b, Config{})
	b.ReportAllocs()
	for b.Loop() {
		tel.Handled(context.Background(), "orders", "dev.ebb.payments.captured.v1", "ok", time.Millisecond)
	}
}

func BenchmarkHandledParallel(b *testing.B) {
	tel := start(b, Config{})
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			tel.Handled(context.Background(), "orders", "dev.ebb.payments.captured.v1", "ok", time.Millisecond)
		}
	})
}

func BenchmarkTraceparent(b *testing.B) {
	ctx, _ := start(b, Config{}).Span(context.Background(), "x")
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			_ = Traceparent(ctx)
		}
	})
	b.Run("read", func(b *testing.B) {
		tp := Traceparent(ctx)
		for b.Loop() {
			_ = WithTraceparent(context.Background(), tp)
		}
	})
}

func BenchmarkLog(b *testing.B) {
	tel := start(b, Config{})
	ctx, _ := tel.Span(WithCorrelation(context.Background(), "c-1"), "x")
	log := tel.Logger("orders")
	b.ReportAllocs()
	for b.Loop() {
		log.InfoContext(ctx, "placed", "order", "o-1")
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		tel, err := Start(context.Background(), Config{Service: "shop", Log: io.Discard})
		if err != nil {
			b.Fatal(err)
		}
		_ = tel.Shutdown(context.Background())
	}
}

// The level changes while loggers are in use; an unknown one changes nothing. The copy keeps what is of info and above.
func TestSetLevel(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var out, also bytes.Buffer
		tel := start(t, Config{Log: &out, Copy: &also, Lookup: vars("EBB_LOG_LEVEL", "warn", "EBB_LOG_FORMAT", format)})
		log := tel.Logger("f")
		for _, step := range []struct {
			level    string
			fails    bool
			out, all int // lines of both afterwards
		}{{"debug", false, 2, 2}, {"loud", true, 4, 4}, {"warn", false, 4, 5}, {"", false, 5, 6}} {
			if err := tel.SetLevel(step.level); (err != nil) != step.fails {
				t.Errorf("%s: %v", step.level, err)
			}
			log.Debug("x")
			log.Info("x")
			if n, m := strings.Count(out.String(), "\n"), strings.Count(also.String(), "\n"); n != step.out || m != step.all {
				t.Errorf("%s, level %q: %d and %d lines", format, step.level, n, m)
			}
		}
	}
	if err := Discard().SetLevel("debug"); err != nil {
		t.Error(err)
	}
}
