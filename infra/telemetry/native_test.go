package telemetry

import (
	"bytes"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// scrapeAs returns the answer to a scraper that accepts a format.
func scrapeAs(t *testing.T, tel *Telemetry, accept string) *httptest.ResponseRecorder {
	t.Helper()
	r, w := httptest.NewRequest("GET", "http://localhost/metrics", nil), httptest.NewRecorder()
	r.RemoteAddr = "127.0.0.1:40000"
	r.Header.Set("Accept", accept)
	tel.MetricsHandler().ServeHTTP(w, r)
	if w.Code != 200 {
		t.Fatalf("scrape: %d %s", w.Code, w.Body)
	}
	return w
}

// What Prometheus sends when it takes native histograms.
const acceptProtobuf = "application/vnd.google.protobuf;" +
	"proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6," +
	"application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"

func families(t *testing.T, w *httptest.ResponseRecorder) map[string]*dto.MetricFamily {
	t.Helper()
	all := map[string]*dto.MetricFamily{}
	d := expfmt.NewDecoder(bytes.NewReader(w.Body.Bytes()), expfmt.ResponseFormat(w.Header()))
	for {
		f := &dto.MetricFamily{}
		err := d.Decode(f)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if all[f.GetName()] != nil {
			t.Errorf("%s is there twice", f.GetName())
		}
		all[f.GetName()] = f
	}
}

// A scraper that takes protobuf gets each histogram with native and classic buckets, and exemplars; also those of
// instruments that a function makes.
func TestNativeHistograms(t *testing.T) {
	tel := start(t, Config{Spans: tracetest.NewInMemoryExporter()})
	ctx, end := tel.Span(t.Context(), "x")
	end(nil)
	for _, d := range []time.Duration{time.Microsecond, 20 * time.Millisecond, 21 * time.Millisecond, time.Hour} {
		tel.HTTP(ctx, Request{Function: "orders", Route: "/api/orders", Method: "GET"}, d)
	}
	tel.HTTP(ctx, Request{Function: "orders", Route: "/api/orders", Method: "POST"}, time.Second)
	tel.Duplicate("orders")
	own, err := tel.Meter().Float64Histogram("ebb.own")
	if err != nil {
		t.Fatal(err)
	}
	own.Record(ctx, 3)

	all := families(t, scrapeAs(t, tel, acceptProtobuf))
	if got := all["ebb_duplicates_total"].GetMetric(); len(got) != 1 || got[0].GetCounter().GetValue() != 1 {
		t.Errorf("counters are missing: %v", got)
	}
	if all["target_info"] == nil || all["go_goroutines"] == nil {
		t.Error("metrics of the process are missing")
	}
	for _, name := range []string{"http_server_request_duration_seconds", "ebb_own"} {
		for _, m := range all[name].GetMetric() {
			h := m.GetHistogram()
			if len(h.Bucket) < 10 || len(h.PositiveSpan) == 0 || h.Schema == nil {
				t.Errorf("%s: %d classic buckets, %d native spans", name, len(h.Bucket), len(h.PositiveSpan))
			}
			total, bucket := int64(h.GetZeroCount()), int64(0)
			for _, delta := range h.PositiveDelta {
				bucket += delta
				total += bucket
			}
			if uint64(total) != h.GetSampleCount() {
				t.Errorf("%s: the native buckets have %d of %d observations", name, total, h.GetSampleCount())
			}
			exemplars := 0
			for _, b := range h.Bucket {
				if b.Exemplar != nil {
					exemplars++
				}
			}
			if exemplars == 0 || len(h.Exemplars) == 0 {
				t.Errorf("%s: %d exemplars of classic buckets, %d of native ones", name, exemplars, len(h.Exemplars))
			}
		}
	}
	if got := len(all["http_server_request_duration_seconds"].GetMetric()); got != 2 {
		t.Errorf("got %d series, want 2", got)
	}
}

// The text format stays for scrapers that take nothing else, with classic buckets only; OpenMetrics has exemplars.
func TestTextFormats(t *testing.T) {
	tel := start(t, Config{Spans: tracetest.NewInMemoryExporter()})
	ctx, end := tel.Span(t.Context(), "x")
	tel.HTTP(ctx, Request{Function: "orders", Route: "/", Method: "GET"}, time.Millisecond)
	end(nil)
	for accept, exemplar := range map[string]bool{
		"": false, "text/plain": false, "application/openmetrics-text;version=1.0.0": true,
		"application/json": false, "\xff;q=x": false,
	} {
		page := scrapeAs(t, tel, accept).Body.String()
		want := `trace_id="` + trace.SpanContextFromContext(ctx).TraceID().String() + `"`
		if got := strings.Contains(page, want); got != exemplar {
			t.Errorf("%q: the page has an exemplar: %t, want %t", accept, got, exemplar)
		}
		if !strings.Contains(page, `http_server_request_duration_seconds_bucket{`) {
			t.Errorf("%q: no histogram in %s", accept, page)
		}
	}
}

// Observations between the two gatherings leave a histogram that Prometheus takes: the count is that of the native
// buckets.
func TestNativeHistogramsWhileRecording(t *testing.T) {
	tel := start(t, Config{})
	observe := func() {
		tel.HTTP(t.Context(), Request{Function: "orders", Route: "/", Method: "GET"}, time.Millisecond)
	}
	observe()
	between := gatherer(func() ([]*dto.MetricFamily, error) {
		all, err := tel.registry.Gather()
		observe()
		return all, err
	})
	all, err := withNative{between, tel.native}.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == "http_server_request_duration_seconds" {
			h := f.Metric[0].Histogram
			if h.GetSampleCount() != 2 || len(h.PositiveDelta) != 1 || h.PositiveDelta[0] != 2 {
				t.Errorf("got %v", h)
			}
			return
		}
	}
	t.Error("no histogram")
}

type gatherer func() ([]*dto.MetricFamily, error)

func (g gatherer) Gather() ([]*dto.MetricFamily, error) { return g() }

// A label of hostile bytes is shown with replacements, and takes nothing else from the page.
func TestLabelsOfHostileBytes(t *testing.T) {
	tel := start(t, Config{})
	tel.Duplicate("orders")
	tel.Duplicate("a\xff\"\n}\x00")
	for _, accept := range []string{"", acceptProtobuf, "application/openmetrics-text;version=1.0.0"} {
		w := scrapeAs(t, tel, accept)
		d := expfmt.NewDecoder(bytes.NewReader(w.Body.Bytes()), expfmt.ResponseFormat(w.Header()))
		f := &dto.MetricFamily{}
		for f.GetName() != "ebb_duplicates_total" && f.GetName() != "ebb_duplicates" {
			*f = dto.MetricFamily{}
			if err := d.Decode(f); err != nil {
				if accept == "" || accept == acceptProtobuf {
					t.Fatalf("%q: %v", accept, err)
				}
				break // the decoder does not read OpenMetrics
			}
		}
		if page := w.Body.String(); !strings.Contains(page, "go_goroutines") || strings.Contains(page, "a\xff") {
			t.Errorf("%q: got %q", accept, page)
		}
	}
}
