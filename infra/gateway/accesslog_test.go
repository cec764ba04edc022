package gateway_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/policy"
)

// Each request writes one line, also one that is refused or whose function panics. It has no path and no credentials.
func TestAccessLog(t *testing.T) {
	var out bytes.Buffer
	f := newFixture(t, func(cfg *gateway.Config) {
		cfg.AccessLog, cfg.Logger = 1, slog.New(slog.NewJSONHandler(&out, nil))
	})
	f.handle("orders", func(http.ResponseWriter, *http.Request) { panic("a fault") })
	token := f.token()
	for _, c := range []struct {
		method, path, token string
		want                map[string]any
	}{
		{"GET", "/api/users/secret-id?q=secret", token, map[string]any{
			"level": "INFO", "http.request.method": "GET", "http.route": "/api/users/{id}", "http.response.status_code": 200.0,
			"function": "users", "user.id": "ada", "client.address": "192.0.2.1",
		}},
		{"GET", "/api/users/secret-id", "", map[string]any{
			"level": "INFO", "http.route": "/api/users/{id}", "http.response.status_code": 401.0, "user.id": nil,
		}},
		{"X\tY", "/secret", "", map[string]any{
			"http.request.method": "_OTHER", "http.route": "", "http.response.status_code": 404.0, "function": nil,
		}},
		{"GET", "/api/orders", token, map[string]any{"level": "ERROR", "http.response.status_code": 500.0}},
	} {
		out.Reset()
		r, err := http.NewRequest("GET", c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Method, r.RemoteAddr = c.method, "192.0.2.1:1"
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		f.gateway.ServeHTTP(&sink{header: http.Header{}}, r)
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		var got map[string]any
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil {
			t.Fatal(err, out.String())
		}
		for name, want := range c.want {
			if got[name] != want {
				t.Errorf("%s %s: %s is %v, want %v", c.method, c.path, name, got[name], want)
			}
		}
		if got["msg"] != "request" || got["request_id"] == "" || got["duration"] == nil ||
			got["http.response.body.size"] == nil || strings.Contains(lines[len(lines)-1], "secret") ||
			strings.Contains(out.String(), token) {
			t.Errorf("%s %s: got %s", c.method, c.path, out.String())
		}
	}
}

// The line of a cached operation names the client behind a private proxy, which the function must not know.
func TestAccessLogOfCachedOperation(t *testing.T) {
	var out bytes.Buffer
	c := newCached(t, policy.Cache{TTL: policy.Duration(time.Hour)}, func(cfg *gateway.Config) {
		cfg.AccessLog, cfg.Logger = 1, slog.New(slog.NewTextHandler(&out, nil))
	})
	for range 2 {
		out.Reset()
		r := httptest.NewRequest("GET", "/api/a", nil)
		r.RemoteAddr = "10.0.0.1:1"
		r.Header.Set("X-Forwarded-For", "192.0.2.7")
		c.gateway.ServeHTTP(&sink{header: http.Header{}}, r)
		if !strings.Contains(out.String(), "client.address=192.0.2.7") {
			t.Errorf("got %s", out.String())
		}
	}
}

// Where a share of the requests get a line, the failed ones all do.
func TestAccessLogShare(t *testing.T) {
	for _, c := range []struct {
		share               float64
		least, most, failed int
	}{{0, 0, 0, 0}, {0x1p-60, 0, 0, 1}, {0.5, 1, 999, 1}, {1, 1000, 1000, 1}} {
		var out bytes.Buffer
		f := newFixture(t, func(cfg *gateway.Config) {
			cfg.AccessLog, cfg.Logger = c.share, slog.New(slog.NewJSONHandler(&out, nil))
		})
		f.handle("orders", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		for range 1000 {
			f.call("POST", "/api/users", "", nil)
		}
		f.call("GET", "/api/orders", f.token(), nil)
		good, failed := strings.Count(out.String(), `"INFO"`), strings.Count(out.String(), `"ERROR"`)
		if good < c.least || good > c.most || failed != c.failed {
			t.Errorf("share %v: got %d lines of 1000 and %d of 1 failed request", c.share, good, failed)
		}
	}
}
