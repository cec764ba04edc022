package telemetry

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// Without a token metrics are for requests that come directly from this machine.
func TestMetricsAreForThisMachine(t *testing.T) {
	tel := start(t, Config{})
	for name, c := range map[string]struct {
		peer, url, field string
		want             int
	}{
		"this machine":         {"127.0.0.1:40000", "http://127.0.0.1:8080/metrics", "", 200},
		"this machine by name": {"[::1]:40000", "http://localhost:8080/metrics", "", 200},
		"IPv6":                 {"[::1]:40000", "http://[::1]/metrics", "", 200},
		"IPv4 in IPv6":         {"[::ffff:127.0.0.1]:40000", "http://localhost/metrics", "", 200},
		"another machine":      {"192.0.2.1:40000", "http://localhost/metrics", "", 401},
		"a private network":    {"10.0.0.7:40000", "http://localhost/metrics", "", 401},
		"no address":           {"", "http://localhost/metrics", "", 401},
		"another name":         {"127.0.0.1:40000", "http://shop.example/metrics", "", 401},
		"a name like loopback": {"127.0.0.1:40000", "http://127.0.0.1.evil.example/metrics", "", 401},
		"the queue-proxy":      {"127.0.0.1:40000", "http://localhost/metrics", "X-Forwarded-For", 401},
		"a proxy":              {"127.0.0.1:40000", "http://localhost/metrics", "Via", 401},
		"RFC 7239":             {"127.0.0.1:40000", "http://localhost/metrics", "Forwarded", 401},
		"a token":              {"192.0.2.1:40000", "http://localhost/metrics", "Authorization", 401},
	} {
		r, w := httptest.NewRequest("GET", c.url, nil), httptest.NewRecorder()
		r.RemoteAddr = c.peer
		if c.field != "" {
			r.Header.Set(c.field, "Bearer x")
		}
		tel.MetricsHandler().ServeHTTP(w, r)
		if w.Code != c.want || w.Code != 200 && strings.Contains(w.Body.String(), "go_") {
			t.Errorf("%s: got %d %.200s, want %d", name, w.Code, w.Body, c.want)
		}
	}
}

// With a token every request needs it, also one from this machine.
func TestMetricsNeedTheToken(t *testing.T) {
	const token = "0123456789abcdef0123456789abcdef"
	vars := map[string]string{"EBB_METRICS_TOKEN": token}
	tel := start(t, Config{Lookup: func(key string) (string, bool) { v, ok := vars[key]; return v, ok }})
	for name, c := range map[string]struct {
		shown []string
		want  int
	}{
		"the token":           {[]string{"Bearer " + token}, 200},
		"in lower case":       {[]string{"bearer " + token}, 200},
		"none":                {nil, 401},
		"empty":               {[]string{""}, 401},
		"another":             {[]string{"Bearer " + strings.Repeat("0", 32)}, 401},
		"a part":              {[]string{"Bearer " + token[:31]}, 401},
		"longer":              {[]string{"Bearer " + token + "0"}, 401},
		"another scheme":      {[]string{"Basic " + token}, 401},
		"the token and other": {[]string{"Bearer " + token, "Bearer x"}, 401},
	} {
		r, w := httptest.NewRequest("GET", "http://localhost/metrics", nil), httptest.NewRecorder()
		r.RemoteAddr = "127.0.0.1:40000"
		if c.shown != nil {
			r.Header["Authorization"] = c.shown
		}
		tel.MetricsHandler().ServeHTTP(w, r)
		if w.Code != c.want || strings.Contains(w.Body.String(), token) {
			t.Errorf("%s: got %d %.200s, want %d", name, w.Code, w.Body, c.want)
		}
		if c.want == 401 && !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer ") {
			t.Errorf("%s: no challenge: %v", name, w.Header())
		}
	}
}

// A token that can be guessed, or that no header field can carry, is refused at the start, and not quoted.
func TestMetricsTokenIsRefused(t *testing.T) {
	for _, token := range []string{"secret", strings.Repeat("a", 31), strings.Repeat("a ", 32), strings.Repeat("ä", 32)} {
		_, err := Start(t.Context(), Config{Lookup: func(key string) (string, bool) {
			if key != "EBB_METRICS_TOKEN" {
				return "", false
			}
			return token, true
		}})
		if err == nil || !strings.Contains(err.Error(), "EBB_METRICS_TOKEN") || strings.Contains(err.Error(), token) {
			t.Errorf("%q: got %v", token, err)
		}
	}
}
