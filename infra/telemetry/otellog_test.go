package telemetry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
)

// lines returns the log lines that a collector got.
func (c *collector) lines() []*logs.LogRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*logs.LogRecord
	for _, m := range c.logs {
		for _, r := range m.ResourceLogs {
			for _, s := range r.ScopeLogs {
				all = append(all, s.LogRecords...)
			}
		}
	}
	return all
}

func onlyLogs(c *collector, more ...string) func(string) (string, bool) {
	return vars(append([]string{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", c.URL + "/otlp/v1/logs"}, more...)...)
}

// A log line is exported with its span, its level and its attributes, and is written as before.
func TestLogLinesAreExported(t *testing.T) {
	c := newCollector(t)
	var out bytes.Buffer
	tel := start(t, Config{Log: &out, Lookup: onlyLogs(c)})
	ctx, end := tel.Span(WithCorrelation(t.Context(), "c-1"), "x")
	end(nil)
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	tel.Logger("orders").With("a", 1).WithGroup("g").With("b", 2.5).WarnContext(ctx, "placed", "c", true, "at", at,
		slog.Group("h", "error", errors.New("inner")))
	tel.Logger("").ErrorContext(ctx, "failed", "error", errors.New("no route"))
	tel.Logger("").DebugContext(ctx, "left out")
	if err := tel.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := c.lines()
	if len(got) != 2 || strings.Count(out.String(), "\n") != 2 {
		t.Fatalf("exported %v, wrote %s", got, &out)
	}
	sc := trace.SpanContextFromContext(ctx)
	id, span := sc.TraceID(), sc.SpanID()
	line := got[0]
	if line.Body.GetStringValue() != "placed" || line.SeverityNumber != logs.SeverityNumber_SEVERITY_NUMBER_WARN ||
		line.SeverityText != "WARN" || !bytes.Equal(line.TraceId, id[:]) || !bytes.Equal(line.SpanId, span[:]) {
		t.Errorf("got %v", line)
	}
	texts := map[string]string{}
	for _, a := range line.Attributes {
		texts[a.Key] = a.Value.String()
	}
	for key, want := range map[string]string{
		"faas.name": `string_value:"orders"`, "a": "int_value:1", "g.b": "double_value:2.5", "g.c": "bool_value:true",
		"g.at": `string_value:"2026-11-30T12:00:00Z"`, "g.h.error": `string_value:"inner"`,
		"correlation_id": `string_value:"c-1"`,
	} {
		if texts[key] != want {
			t.Errorf("%s is %s, want %s", key, texts[key], want)
		}
	}
	if len(texts) != 7 {
		t.Errorf("got %v", texts)
	}
	if got[1].SeverityNumber != logs.SeverityNumber_SEVERITY_NUMBER_ERROR ||
		!strings.Contains(got[1].String(), `"exception.message"`) {
		t.Errorf("got %v", got[1])
	}
}

// Hostile text is cut and made valid: one invalid byte would make a collector refuse the batch.
func TestHostileLogLinesAreExported(t *testing.T) {
	c := newCollector(t)
	tel := start(t, Config{Log: io.Discard, Lookup: onlyLogs(c)})
	hostile := "\xff\x00\n" + strings.Repeat("ä", maxLogged)
	tel.Logger(hostile).WithGroup(hostile).Error(hostile, hostile, hostile, "any", []byte(hostile))
	tel.Logger("f").Log(t.Context(), slog.Level(-1<<40), "least")
	tel.Logger("f").Log(t.Context(), slog.Level(1<<40), "most")
	if err := tel.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := c.lines()
	if len(got) != 2 {
		t.Fatalf("got %d lines, want 2", len(got))
	}
	if n := len(got[0].Body.GetStringValue()); n > maxLogged+8 {
		t.Errorf("the line has %d bytes", n)
	}
	for _, a := range got[0].Attributes {
		if len(a.Key) > maxLogged+8 || len(a.Value.GetStringValue()) > maxLogged+8 {
			t.Errorf("%.20s has %d bytes", a.Key, len(a.Value.GetStringValue()))
		}
	}
	if got[1].SeverityNumber != logs.SeverityNumber_SEVERITY_NUMBER_FATAL4 {
		t.Errorf("got %v", got[1])
	}
}

// A collector that refuses, or answers with what is no answer, stops nothing, and its errors are not exported in turn.
func TestACollectorThatAnswersGarbage(t *testing.T) {
	calls := make(chan string, 1000)
	garbage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		calls <- r.URL.Path
		w.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = io.WriteString(w, "\xff\xff\xff garbage")
	}))
	defer garbage.Close()
	var log safeBuffer
	tel, err := Start(t.Context(), Config{Log: &log, Lookup: vars("OTEL_EXPORTER_OTLP_ENDPOINT", garbage.URL)})
	if err != nil {
		t.Fatal(err)
	}
	_, end := tel.Span(t.Context(), "x")
	end(nil)
	tel.Duplicate("f")
	tel.Logger("f").Info("x")
	_ = tel.Flush(t.Context())
	_ = tel.Flush(t.Context())
	_ = tel.Shutdown(context.Background())
	if !strings.Contains(log.String(), "telemetry is not exported") {
		t.Errorf("the log has %s", log.String())
	}
	close(calls)
	lines := 0
	for path := range calls {
		if path == "/v1/logs" {
			lines++
		}
	}
	if lines != 1 {
		t.Errorf("%d requests with log lines, want 1: the exporters' errors are exported", lines)
	}
}

// Without logs in OTLP no exporter of them is made; a common endpoint is one for all three signals.
func TestLogsOnlyWhenAsked(t *testing.T) {
	for _, test := range []struct {
		vars []string
		want string
	}{
		{nil, ""},
		{[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:4318"}, ""},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"}, "http://c:4318/v1/logs"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318", "OTEL_LOGS_EXPORTER", "none"}, ""},
		{[]string{"OTEL_LOGS_EXPORTER", "otlp"}, "http://localhost:4318/v1/logs"},
	} {
		x, err := environment(vars(test.vars...)).exports()
		if err != nil || urlOf(x.logs) != test.want {
			t.Errorf("%v: got %s, %v; want %s", test.vars, urlOf(x.logs), err, test.want)
		}
	}
	for _, wrong := range [][2]string{
		{"OTEL_LOGS_EXPORTER", "console"}, {"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "x"},
	} {
		if _, err := environment(vars(wrong[0], wrong[1])).exports(); err == nil || !strings.Contains(err.Error(), wrong[0]) {
			t.Errorf("%v: got %v", wrong, err)
		}
	}
}

// Histograms are pushed as exponential ones where the variable of the specification asks for it.
func TestExponentialHistogramsArePushed(t *testing.T) {
	for value, want := range map[string]bool{"": false, "explicit_bucket_histogram": false,
		"base2_exponential_bucket_histogram": true} {
		c := newCollector(t)
		tel := start(t, Config{Lookup: vars("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", c.URL+"/otlp/v1/metrics",
			"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", value)})
		tel.HTTP(t.Context(), Request{Function: "f", Route: "/", Method: "GET"}, time.Second)
		if err := tel.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		if got := strings.Contains(c.metrics[0].String(), "exponential_histogram"); got != want {
			t.Errorf("%q: exponential is %t, want %t", value, got, want)
		}
		c.mu.Unlock()
	}
}
