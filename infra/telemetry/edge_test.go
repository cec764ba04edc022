package telemetry_test

import (
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/telemetry"
)

// What a gateway does for its functions is in the metrics. Without telemetry nothing happens.
func TestEdge(t *testing.T) {
	on, err := telemetry.Start(t.Context(), telemetry.Config{Service: "gateway", Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	for _, watch := range []*telemetry.Telemetry{on, nil} {
		watch.TriedAgain("users", "/api/users", "hedge")
		watch.Shed("users", "/api/users", "breaker")
		watch.Breaker("users", "GET /api/users", "open")
		watch.Instances("users", 3, 2)
	}
	w := httptest.NewRecorder()
	scrape := httptest.NewRequest("GET", "http://localhost/metrics", nil)
	scrape.RemoteAddr = "127.0.0.1:40000"
	on.MetricsHandler().ServeHTTP(w, scrape)
	for _, want := range []string{
		`ebb_gateway_tries_total{function="users",kind="hedge",route="/api/users"} 1`,
		`ebb_gateway_shed_total{function="users",reason="breaker",route="/api/users"} 1`,
		`ebb_gateway_breaker{function="users",operation="GET /api/users"} 2`,
		`ebb_gateway_instances{function="users",state="all"} 3`,
		`ebb_gateway_instances{function="users",state="healthy"} 2`,
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("the metrics have no %s:\n%s", want, w.Body)
		}
	}
}
