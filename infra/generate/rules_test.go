package generate_test

import (
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/generate"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// Each operation has an objective of its own, each read one for its time too, and each saga one; none is there twice.
func TestObjectives(t *testing.T) {
	route := func(method, path string) manifest.Route { return manifest.Route{Method: method, Path: path} }
	rules := string(generate.Rules(manifest.System{Functions: []*manifest.Declaration{
		{Function: manifest.Function{Name: "trips", Routes: []manifest.Route{
			route("GET", "/api/trips/{id}"), route("POST", "/api/trips"), route("GET", "/api/sagas/trip"),
			route("GET", "/api/sagas/trip/{id}"), route("POST", `/api/"quoted"`),
		}}},
		{Function: manifest.Function{Name: "quiet"}},
	}}))
	seen := map[string]int{}
	for line := range strings.Lines(rules) {
		if strings.Contains(line, `record: "slo:objective:ratio"`) {
			seen[strings.TrimSpace(line)]++
		}
	}
	objective := func(ratio, labels string) string {
		return `- {record: "slo:objective:ratio", expr: "vector(` + ratio + `)", ` +
			`labels: {sloth_service: "trips", ` + labels + `}}`
	}
	want := []string{
		objective("0.999", `sloth_slo: "progress", saga: "trip"`),
		objective("0.999", `sloth_slo: "availability", http_request_method: "POST", http_route: "/api/\"quoted\""`),
		objective("0.999", `sloth_slo: "availability", http_request_method: "POST", http_route: "/api/trips"`),
	}
	for _, path := range []string{"/api/trips/{id}", "/api/sagas/trip", "/api/sagas/trip/{id}"} {
		labels := `http_request_method: "GET", http_route: "` + path + `"`
		want = append(want, objective("0.999", `sloth_slo: "availability", `+labels),
			objective("0.99", `sloth_slo: "latency", `+labels))
	}
	for _, line := range want {
		if seen[line] != 1 {
			t.Errorf("%d times: %s", seen[line], line)
		}
	}
	if len(seen) != len(want) {
		t.Errorf("got %d objectives, want %d: %v", len(seen), len(want), seen)
	}
}
