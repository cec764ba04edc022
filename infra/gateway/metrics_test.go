package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/policy"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// The metrics tell by route what is being served, what was carried, refused and stored.
func TestMetrics(t *testing.T) {
	watch, err := telemetry.Start(t.Context(), telemetry.Config{Service: "gateway", Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	metrics := func() string {
		w := httptest.NewRecorder()
		scrape := httptest.NewRequest("GET", "http://localhost/metrics", nil)
		scrape.RemoteAddr = "127.0.0.1:40000"
		watch.MetricsHandler().ServeHTTP(w, scrape)
		return w.Body.String()
	}
	during := ""
	h := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		during = metrics()
		_, _ = io.WriteString(w, "12345")
	}
	f := newFixture(t, func(cfg *gateway.Config) { cfg.Telemetry, cfg.Now = watch, newClock().Now }, with("a", h,
		function.Operation{Method: "GET", Path: "/api/a", Access: function.Public, Policy: policy.Policy{
			Cache: &policy.Cache{TTL: policy.Duration(time.Hour)},
		}},
		function.Operation{Method: "PUT", Path: "/api/b", Access: function.Public, Policy: policy.Policy{
			Rate: []policy.Rate{{Name: "burst", Quota: 2, Window: policy.Duration(time.Hour)}},
		}}))
	for range 3 {
		f.call("GET", "/api/a", "", nil)
		f.call("PUT", "/api/b", "", io.MultiReader(strings.NewReader("of unknown length")))
	}
	after := metrics()
	for _, want := range []struct{ in, series, value string }{
		{during, `ebb_gateway_running{function="a",route="/api/b"`, "1"},
		{after, `ebb_gateway_running{function="a",route="/api/b"`, "0"},
		{after, `ebb_gateway_carried_bytes_total{direction="request",function="a",route="/api/b"`, "34"},
		{after, `ebb_gateway_carried_bytes_total{direction="response",function="a",route="/api/a"`, "15"},
		{after, `ebb_gateway_limited_total{function="a",limit="burst",route="/api/b"`, "1"},
		{after, `ebb_gateway_cached_total{function="a",result="miss",route="/api/a"`, "1"},
		{after, `ebb_gateway_cached_total{function="a",result="hit",route="/api/a"`, "2"},
	} {
		found := false
		for line := range strings.Lines(want.in) {
			if strings.HasPrefix(line, want.series) {
				found = strings.HasSuffix(strings.TrimSpace(line), " "+want.value)
			}
		}
		if !found {
			t.Errorf("no %s with %s in:\n%s", want.series, want.value, want.in)
		}
	}
}

// The gateway serves metrics to its own machine. Behind named proxies no request counts as one of it: header fields
// that show a proxy are taken out of requests of those that are not named.
func TestMetricsAreNotPublic(t *testing.T) {
	watch, err := telemetry.Start(t.Context(), telemetry.Config{Service: "gateway", Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, func(cfg *gateway.Config) { cfg.Telemetry = watch },
		with("a", func(http.ResponseWriter, *http.Request) {}))
	scrape := func(peer, field string) int {
		r, w := httptest.NewRequest("GET", "http://localhost/metrics", nil), httptest.NewRecorder()
		r.RemoteAddr = peer
		if field != "" {
			r.Header.Set(field, "192.0.2.1")
		}
		f.gateway.ServeHTTP(w, r)
		return w.Code
	}
	got := []int{
		scrape("127.0.0.1:40000", ""), scrape("192.0.2.1:40000", ""), scrape("127.0.0.1:40000", "X-Forwarded-For"),
	}
	f.configure("proxies: [192.0.2.7]")
	got = append(got, scrape("127.0.0.1:40000", ""), scrape("127.0.0.1:40000", "X-Forwarded-For"))
	if want := []int{200, 401, 401, 401, 401}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Of a stream of events the duration is the time until it begins: how long it lasts is the reader's affair. An adaptive
// limit does not learn from it either.
func TestDurationOfAStream(t *testing.T) {
	watch, err := telemetry.Start(t.Context(), telemetry.Config{Service: "gateway", Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	var begun time.Time
	h := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		begun = time.Now()
		_, _ = io.WriteString(w, "data: 1\n\n")
		for time.Since(begun) < 50*time.Millisecond { // it lasts
			runtime.Gosched()
		}
	}
	f := newFixture(t, func(cfg *gateway.Config) { cfg.Telemetry = watch }, with("a", h,
		function.Operation{
			Method: "GET", Path: "/api/stream", Access: function.Public, Policy: policy.Policy{Adaptive: true},
		}))
	asked := time.Now()
	f.call("GET", "/api/stream", "", nil)
	until := begun.Sub(asked).Seconds()
	w := httptest.NewRecorder()
	scrape := httptest.NewRequest("GET", "http://localhost/metrics", nil)
	scrape.RemoteAddr = "127.0.0.1:40000"
	watch.MetricsHandler().ServeHTTP(w, scrape)
	for line := range strings.Lines(w.Body.String()) {
		if !strings.HasPrefix(line, "http_server_request_duration_seconds_sum") || !strings.Contains(line, "/api/stream") {
			continue
		}
		fields := strings.Fields(line)
		sum, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil || sum > until {
			t.Errorf("the duration is %v, and it began after %v: %v", sum, until, err)
		}
		return
	}
	t.Errorf("no duration in %s", w.Body)
}
