package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/ratelimit"
	"github.com/ebb-dev/ebb/infra/ratelimit/memory"
)

// clock is the time that a test sets.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func newClock() *clock { return &clock{time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)} }

// A request over a limit is a problem of the draft's type, and every answer tells what is left.
func TestRateLimit(t *testing.T) {
	c := newClock()
	f := newFixture(t, func(cfg *gateway.Config) { cfg.Now = c.Now })
	f.configure(`
operations:
  GET /api/orders:
    rate:
    - {name: burst, quota: 3, window: 60s}
    - {name: day, quota: 100, window: 24h, by: address}
`)
	calls := 0
	f.handle("orders", func(http.ResponseWriter, *http.Request) { calls++ })
	token := f.token()
	const policies = `"burst";q=3;w=60, "day";q=100;w=86400`
	for i, want := range []string{
		`"burst";r=2;t=20, "day";r=99;t=864`, `"burst";r=1;t=40, "day";r=98;t=1728`, `"burst";r=0;t=60, "day";r=97;t=2592`,
	} {
		w := f.call("GET", "/api/orders", token, nil)
		if w.Code != 200 || w.Header().Get("RateLimit-Policy") != policies || w.Header().Get("RateLimit") != want {
			t.Errorf("request %d: got %d %v", i, w.Code, w.Header())
		}
	}
	w := f.call("GET", "/api/orders", token, nil)
	f.problem(w, 429)
	var p struct {
		Type     string
		Violated []string `json:"violated-policies"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	const kind = "https://iana.org/assignments/http-problem-types#quota-exceeded"
	if p.Type != kind || !slices.Equal(p.Violated, []string{"burst"}) {
		t.Errorf("the problem is %s", w.Body)
	}
	if h := w.Header(); h.Get("Retry-After") != "20" || h.Get("RateLimit") != `"burst";r=0;t=60, "day";r=97;t=2592` ||
		h.Get("RateLimit-Policy") != policies {
		t.Errorf("the header is %v", h)
	}
	c.now = c.now.Add(20 * time.Second)
	if w := f.call("GET", "/api/orders", token, nil); w.Code != 200 || calls != 4 {
		t.Errorf("after the wait: got %d, %d calls", w.Code, calls)
	}
	h := f.call("GET", "/api/users/1", token, nil).Header()
	if h.Get("RateLimit") != "" || h.Get("RateLimit-Policy") != "" {
		t.Errorf("an operation without limits has %v", h)
	}
}

// callers authenticates by a header field with the id, the API key and the plan of the caller.
type callers struct{}

func (callers) Authenticate(r *http.Request) (auth.Principal, error) {
	of := strings.Split(r.Header.Get("X-Caller")+",,", ",")
	return auth.Principal{Subject: of[0], Key: of[1], Claims: map[string]string{"plan": of[2]}}, nil
}

// Requests are counted by what the limit names.
func TestRateLimitBy(t *testing.T) {
	for by, c := range map[string]struct{ together, apart [][2]string }{ // caller and address
		"user": {[][2]string{{"ada", "1.1.1.1"}, {"ada,k2", "1.1.1.2"}},
			[][2]string{{"bob", "1.1.1.1"}, {"", "1.1.1.1"}, {"", "1.1.1.2"}}},
		"": {[][2]string{{"ada", "1.1.1.1"}, {"ada", "1.1.1.2"}}, [][2]string{{"bob", "1.1.1.1"}}},
		"key": {[][2]string{{"ada,k", "1.1.1.1"}, {"bob,k", "1.1.1.2"}},
			[][2]string{{"ada,l", "1.1.1.1"}, {"ada", "1.1.1.1"}}},
		"address": {[][2]string{{"ada", "2001:db8:0:1::1"}, {"bob", "2001:db8:0:1:ffff::2"}},
			[][2]string{{"ada", "2001:db8:0:2::1"}}},
		"operation": {[][2]string{{"ada", "1.1.1.1"}, {"bob", "1.1.1.2"}}, nil},
		"claim:plan": {[][2]string{{"ada,,gold", "1.1.1.1"}, {"bob,,gold", "1.1.1.2"}},
			[][2]string{{"ada,,free", "1.1.1.1"}, {"ada", "1.1.1.1"}, {"bob", "1.1.1.1"}}},
	} {
		f := newFixture(t, func(cfg *gateway.Config) { cfg.Now, cfg.Authenticator = newClock().Now, callers{} })
		f.configure("operations: {POST /api/users: {rate: [{name: a, quota: 1, window: 1h, by: '" + by + "'}]}}")
		status := func(who [2]string) int {
			r := httptest.NewRequest("POST", "/api/users", nil)
			r.Header.Set("X-Caller", who[0])
			r.RemoteAddr = net.JoinHostPort(who[1], "1")
			w := httptest.NewRecorder()
			f.gateway.ServeHTTP(w, r)
			return w.Code
		}
		for i, who := range c.together {
			if got, want := status(who), 200+min(i, 1)*229; got != want {
				t.Errorf("by %q: %q got %d, want %d", by, who, got, want)
			}
		}
		for _, who := range c.apart {
			if got := status(who); got != 200 {
				t.Errorf("by %q: %q got %d, want a quota of its own", by, who, got)
			}
		}
	}
}

// A shared limit counts the requests of its operations together, others count for themselves. A composed answer has
// limits too, and a change of the policies keeps the counters.
func TestRateLimitShared(t *testing.T) {
	f := newFixture(t, func(cfg *gateway.Config) { cfg.Now = newClock().Now })
	const document = `
defaults: {rate: [{name: all, quota: 3, window: 1h, shared: true}]}
operations:
  GET /api/users/{id}: {rate: [{name: all, quota: 3, window: 1h}]}
`
	f.configure(document)
	token := f.token()
	for i, path := range []string{"/api/orders", "/api/views/orders", "/api/me"} {
		if w := f.call("GET", path, token, nil); w.Code != 200 {
			t.Errorf("%d: %s got %d", i, path, w.Code)
		}
	}
	f.configure(document)
	f.problem(f.call("GET", "/api/orders", token, nil), 429)
	f.problem(f.call("GET", "/api/me", token, nil), 429)
	if w := f.call("GET", "/api/users/1", token, nil); w.Code != 200 {
		t.Errorf("the other limit of the name: got %d", w.Code)
	}
}

// store is a shared limiter that can be away.
type store struct {
	ratelimit.Limiter
	away  bool
	asked int
}

func (s *store) Take(ctx context.Context, limits []ratelimit.Limit) (ratelimit.Decision, error) {
	s.asked++
	if s.away {
		return ratelimit.Decision{}, errors.New("away")
	}
	return s.Limiter.Take(ctx, limits)
}

// While the shared store is away each limit does what it declares, and requests do not ask the store again at once.
func TestRateLimitAway(t *testing.T) {
	c := newClock()
	s := &store{Limiter: memory.New(c.Now)}
	f := newFixture(t, func(cfg *gateway.Config) { cfg.Now, cfg.Limiter = c.Now, s })
	f.configure(`
operations:
  GET /api/orders: {rate: [{name: a, quota: 1, window: 1h}, {name: o, quota: 1, window: 1h, away: open}]}
  GET /api/views/orders: {rate: [{name: b, quota: 1, window: 1h, away: open}]}
  GET /api/users/{id}: {rate: [{name: c, quota: 9, window: 1h, away: closed}, {name: d, quota: 9, window: 1h}]}
`)
	token := f.token()
	get := func(path string) *httptest.ResponseRecorder { return f.call("GET", path, token, nil) }
	for _, path := range []string{"/api/orders", "/api/views/orders", "/api/users/1"} {
		if w := get(path); w.Code != 200 {
			t.Errorf("%s: got %d", path, w.Code)
		}
	}
	f.problem(get("/api/orders"), 429)
	f.problem(get("/api/views/orders"), 429)

	s.away = true
	if w := get("/api/orders"); w.Code != 200 || w.Header().Get("RateLimit") != `"a";r=0;t=3600` {
		t.Errorf("local: got %d %v, want a count of its own", w.Code, w.Header())
	}
	f.problem(get("/api/orders"), 429)
	for range 3 {
		if w := get("/api/views/orders"); w.Code != 200 || w.Header().Get("RateLimit") != "" {
			t.Errorf("open: got %d %v", w.Code, w.Header())
		}
	}
	w := get("/api/users/1")
	f.problem(w, 503)
	if w.Header().Get("Retry-After") != "1" {
		t.Errorf("closed: the header is %v", w.Header())
	}
	if s.asked != 6 {
		t.Errorf("the store was asked %d times, want 6: once while it is away", s.asked)
	}

	s.away = false
	c.now = c.now.Add(time.Second)
	f.problem(get("/api/views/orders"), 429)
	if w := get("/api/users/1"); w.Code != 200 {
		t.Errorf("the store is back: got %d", w.Code)
	}
}

// What is not valid in a limit is named.
func TestRateLimitRefused(t *testing.T) {
	f := newFixture(t)
	for limit, want := range map[string]string{
		"{quota: 1, window: 1s}":                                           "[0].name: want 1 to 64 letters",
		"{name: 'a;b', quota: 1, window: 1s}":                              "[0].name: want 1 to 64 letters",
		"{name: a, window: 1s}":                                            "[0].quota: want 1 or more",
		"{name: a, quota: 1000001, window: 1s}":                            "[0].quota: want 1 or more",
		"{name: a, quota: 1, window: 1500ms}":                              "[0].window: want whole seconds",
		"{name: a, quota: 1}":                                              "[0].window: want whole seconds",
		"{name: a, quota: 1, window: 1s, by: ip}":                          "[0].by: want user, key",
		"{name: a, quota: 1, window: 1s, by: 'claim:'}":                    "[0].by: want user, key",
		"{name: a, quota: 1, window: 1s, away: maybe}":                     "[0].away: want local, open or closed",
		"{name: a, quota: 1, window: 1s, by: user, x: 1}":                  "[0].x: unknown field",
		"{name: a, quota: 1, window: 1s}, {name: a, quota: 2, window: 2s}": `[1].name: duplicate limit "a"`,
	} {
		document := "operations: {GET /api/orders: {rate: [" + limit + "]}}"
		err := f.gateway.(*gateway.Gateway).Configure("f", []byte(document))
		if err == nil || !strings.Contains(err.Error(), "f:1: operations.GET /api/orders.rate"+want) {
			t.Errorf("%s: got %v, want %s", limit, err, want)
		}
	}
	err := f.gateway.(*gateway.Gateway).Configure("f", []byte(`
operations:
  GET /api/orders: {rate: [{name: a, quota: 1, window: 1s, shared: true}]}
  GET /api/users: {rate: [{name: a, quota: 2, window: 1s, shared: true}]}
`))
	const want = `f:4: operations.GET /api/users.rate[0]: the shared limit "a" is another one elsewhere`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
