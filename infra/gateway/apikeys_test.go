package gateway_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/ebb-dev/ebb/infra/auth/apikey"
	"github.com/ebb-dev/ebb/infra/gateway"
)

func takesKeys(cfg *gateway.Config) {
	cfg.Now = newClock().Now
	cfg.Authenticator = apikey.Beside(cfg.Authenticator)
}

// A key reaches the function as a bearer token, in whichever field it came. A typing error, a second credential and a
// route that no key may call are refused before.
func TestAPIKey(t *testing.T) {
	f := newFixture(t, takesKeys)
	key := apikey.New()
	got := ""
	see := func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization") + r.Header.Get("X-API-Key")
		w.WriteHeader(http.StatusTeapot)
	}
	f.handle("orders", see)
	f.handle("users", see)
	for _, header := range [][]string{{"X-API-Key", key}, {"Authorization", "Bearer " + key}} {
		for _, path := range []string{"/api/orders", "/api/users"} { // the function knows the roles
			got = ""
			if w := f.call("GET", path, "", nil, header...); w.Code != http.StatusTeapot || got != "Bearer "+key {
				t.Errorf("%s by %s: got %d, the function got %q", path, header[0], w.Code, got)
			}
		}
	}
	got = ""
	for name, c := range map[string]struct {
		path, token string
		header      []string
		want        int
	}{
		"a typing error":    {"/api/orders", "", []string{"X-API-Key", key[:len(key)-1]}, 401},
		"one in public":     {"/api/users", "", []string{"X-API-Key", "ebb_"}, 401},
		"with a token":      {"/api/orders", f.token(), []string{"X-API-Key", key}, 401},
		"a composed answer": {"/api/me", "", []string{"X-API-Key", key}, 403},
		"an export":         {"/api/persons/ada/export", "", []string{"X-API-Key", key}, 403},
	} {
		if w := f.call("GET", c.path, c.token, nil, c.header...); w.Code != c.want || got != "" {
			t.Errorf("%s: got %d, want %d; the function got %q", name, w.Code, c.want, got)
		}
	}
}

// Keys that nobody has accepted are counted by their address, so that making up a new one for each request gains
// nothing. A key that a function has accepted counts by itself, wherever its requests come from, until it is refused.
func TestRateLimitByAPIKey(t *testing.T) {
	for _, by := range []string{"user", "key", "claim:plan"} {
		f := newFixture(t, takesKeys)
		f.configure("operations: {GET /api/orders: {rate: [{name: a, quota: 2, window: 1h, by: '" + by + "'}]}}")
		good := map[string]bool{}
		f.handle("orders", func(w http.ResponseWriter, r *http.Request) {
			if !good[r.Header.Get("Authorization")[len("Bearer "):]] {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			w.WriteHeader(http.StatusOK)
		})
		call := func(key, address string) int {
			r := httptest.NewRequest("GET", "/api/orders", nil)
			r.Header.Set("X-API-Key", key)
			r.RemoteAddr = address + ":1"
			w := httptest.NewRecorder()
			f.gateway.ServeHTTP(w, r)
			return w.Code
		}
		expect := func(what, key, address string, want int) {
			t.Helper()
			if got := call(key, address); got != want {
				t.Errorf("by %s: %s: got %d, want %d", by, what, got, want)
			}
		}
		for _, want := range []int{401, 401, 429, 429} {
			expect("a made up key", apikey.New(), "1.1.1.1", want)
		}
		key := apikey.New()
		good[key] = true
		expect("the first of a good key, by the address", key, "1.1.1.2", 200)
		expect("then by itself", key, "1.1.1.1", 200)
		expect("then by itself", key, "1.1.1.3", 200)
		expect("over its limit", key, "1.1.1.4", 429)
		other := apikey.New()
		good[other] = true
		expect("another key at the same address", other, "1.1.1.2", 200)
		expect("another key at the same address", other, "1.1.1.2", 200)
		good[other] = false
		expect("the key is revoked", other, "1.1.1.2", 401)
		expect("and counts by the address", other, "1.1.1.2", 429)
	}
}
