package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/discovery/static"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/policy"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// at returns the instance with the address of a server that h serves.
func at(t *testing.T, id string, h http.HandlerFunc) discovery.Instance {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return discovery.Instance{ID: id, Address: u}
}

// An operation is tried at the next instance as its policy says, and the metrics tell of it. The function learns how
// much time it has.
func TestTriesByPolicy(t *testing.T) {
	watch, err := telemetry.Start(t.Context(), telemetry.Config{Service: "gateway", Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	var failed atomic.Int64
	ill := at(t, "ill", func(w http.ResponseWriter, _ *http.Request) {
		failed.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	well := at(t, "well", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("Ebb-Timeout"))
	})
	f := newFixture(t, with("far", nil,
		function.Operation{Method: "GET", Path: "/api/tried", Access: function.Public,
			Policy: policy.Policy{Retries: 1, TryTimeout: policy.Duration(time.Minute)}},
		function.Operation{Method: "GET", Path: "/api/once", Access: function.Public},
	), func(cfg *gateway.Config) {
		cfg.Discovery.(static.Discovery)["far"] = []discovery.Instance{ill, well}
		cfg.Telemetry = watch
	})
	for range 4 {
		if w := f.call("GET", "/api/tried", "", nil); w.Code != 200 || w.Body.String() != "60000" {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	}
	if failed.Load() == 0 {
		t.Fatal("the instance that fails was not asked")
	}
	f.configure("operations: {GET /api/once: {retries: 2}}")
	for range 2 {
		if w := f.call("GET", "/api/once", "", nil); w.Code != 200 {
			t.Errorf("with retries of the file: got %d", w.Code)
		}
	}
	w := httptest.NewRecorder()
	scrape := httptest.NewRequest("GET", "http://localhost/metrics", nil)
	scrape.RemoteAddr = "127.0.0.1:40000"
	watch.MetricsHandler().ServeHTTP(w, scrape)
	for _, want := range []string{
		`ebb_gateway_tries_total{function="far",kind="retry",route="/api/tried"`,
		`ebb_gateway_instances{function="far",state="all"`,
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("the metrics have no %s:\n%s", want, w.Body)
		}
	}
}

// The time that a stranger says a request has left does not reach the function.
func TestTimeoutOfAStranger(t *testing.T) {
	op := function.Operation{Method: "GET", Path: "/api/seen", Access: function.Public}
	f := newFixture(t, with("seen", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "seen "+r.Header.Get("Ebb-Timeout"))
	}, op))
	if w := f.call("GET", "/api/seen", "", nil, "Ebb-Timeout", "1"); w.Body.String() != "seen " {
		t.Errorf("got %s", w.Body)
	}
}

// A policy about tries or load that is not valid is refused by the name of each field.
func TestTriesAreChecked(t *testing.T) {
	f := newFixture(t)
	err := f.gateway.(*gateway.Gateway).Configure("policy.yaml", []byte(`
defaults: {try_timeout: -1s, retries: 11, hedge: -1s, concurrency: -1}
operations:
  GET /api/orders:
    breaker: {failures: 2, requests: -1, pause: -1s}
  GET /api/users:
    breaker: {pause: 1s}
`))
	if err == nil {
		t.Fatal("it was accepted")
	}
	for _, want := range []string{
		"defaults.try_timeout", "defaults.retries", "defaults.hedge", "defaults.concurrency",
		"operations.GET /api/orders.breaker.failures", "breaker.requests", "breaker.pause",
		"operations.GET /api/users.breaker.failures",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in: %v", want, err)
		}
	}
}
