package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/policy"
)

// cached is a gateway with a function whose answers are stored. The test says what it answers.
type cached struct {
	*fixture
	*clock
	mu     sync.Mutex
	calls  int
	answer func(w http.ResponseWriter, r *http.Request, call int)
}

func newCached(t *testing.T, p policy.Cache, change ...func(*gateway.Config)) *cached {
	c := &cached{clock: newClock()}
	c.answer = func(w http.ResponseWriter, _ *http.Request, call int) { fmt.Fprint(w, "answer ", call) }
	h := func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.calls++
		call, answer := c.calls, c.answer
		c.mu.Unlock()
		answer(w, r, call)
	}
	change = append(change, func(cfg *gateway.Config) { cfg.Now = c.Now }, with("a", h,
		function.Operation{Method: "GET", Path: "/api/a", Access: function.Public, Policy: policy.Policy{Cache: &p}},
		function.Operation{Method: "PUT", Path: "/api/a", Access: function.Public},
		function.Operation{Method: "GET", Path: "/api/mine", Policy: policy.Policy{Coalesce: true}}))
	c.fixture = newFixture(t, change...)
	return c
}

// get returns the body and the Cache-Status of an answer.
func (c *cached) get(target string, headers ...string) string {
	c.Helper()
	w := c.call("GET", target, "", nil, headers...)
	return strings.TrimSpace(w.Body.String() + " " + strings.TrimPrefix(w.Header().Get("Cache-Status"), "ebb; "))
}

func (c *cached) want(got, want string) {
	c.Helper()
	if got != want {
		c.Errorf("got %q, want %q", got, want)
	}
}

// An answer is given again while it is fresh: by what the answer says, or by the policy.
func TestCacheFreshness(t *testing.T) {
	for header, seconds := range map[string]int{
		"": 10, "Cache-Control: max-age=5": 5, "Cache-Control: max-age=5, s-maxage=20": 20,
		`Cache-Control: private="x, max-age=9"`: 0, "Cache-Control: no-store": 0, "Cache-Control: no-cache": 0,
		"Cache-Control: MAX-AGE=5": 5, "Cache-Control: max-age=-1": 0, "Cache-Control: max-age=x": 0,
		"Expires: Mon, 30 Nov 2026 00:00:07 GMT": 7, "Expires: 0": 0, "Set-Cookie: a=b": 0, "Vary: *": 0,
		"Vary: Accept, *": 0, "Cache-Control: max-age=5\nAge: 3": 2,
	} {
		c := newCached(t, policy.Cache{TTL: policy.Duration(10 * time.Second)})
		c.answer = func(w http.ResponseWriter, _ *http.Request, call int) {
			for line := range strings.SplitSeq(header, "\n") {
				if name, value, ok := strings.Cut(line, ": "); ok {
					w.Header().Set(name, value)
				}
			}
			fmt.Fprint(w, call)
		}
		c.get("/api/a")
		if seconds > 0 {
			c.now = c.now.Add(time.Duration(seconds)*time.Second - 1)
			if got := c.get("/api/a"); got != "1 hit" {
				t.Errorf("%q: got %q before it is stale", header, got)
			}
			c.now = c.now.Add(1)
		}
		if got := c.get("/api/a"); !strings.HasPrefix(got, "2 fwd=miss") {
			t.Errorf("%q: got %q when it is stale", header, got)
		}
	}
}

// Only answers that others may see are stored, and they are stored under all that they depend on.
func TestCacheIsNotPrivate(t *testing.T) {
	c := newCached(t, policy.Cache{TTL: policy.Duration(time.Hour)})
	c.want(c.get("/api/a"), "answer 1 fwd=miss; stored")
	c.want(c.get("/api/a"), "answer 1 hit")
	c.want(c.get("/api/a?x=1"), "answer 2 fwd=miss; stored")
	token := c.token()
	for call := range 2 { // with credentials it is neither read nor stored
		if w := c.call("GET", "/api/a", token, nil); w.Body.String() != fmt.Sprint("answer ", 3+call) {
			t.Errorf("got %s", w.Body)
		}
	}
	c.want(c.get("/api/a"), "answer 1 hit")
	c.want(c.get("/api/a", "Range", "bytes=0-1"), "answer 5")
	c.want(c.get("/api/a", "Cache-Control", "no-cache"), "answer 6 fwd=miss; stored")
	c.want(c.get("/api/a"), "answer 6 hit")
	if w := c.call("GET", "/api/a?only", "", nil, "Cache-Control", "only-if-cached"); w.Code != 504 {
		t.Errorf("only-if-cached: got %d", w.Code)
	}
	w := c.call("HEAD", "/api/a", "", nil)
	if w.Header().Get("Cache-Status") != "ebb; hit" {
		t.Errorf("HEAD: got %v", w.Header())
	}
}

// The answer to a request that asks for it is not stored (RFC 9111, 5.2.1.5). One that is there already is given.
func TestRequestsAskForNoStore(t *testing.T) {
	c := newCached(t, policy.Cache{TTL: policy.Duration(time.Hour)})
	c.want(c.get("/api/a", "Cache-Control", "max-age=0, No-Store"), "answer 1 fwd=miss")
	c.want(c.get("/api/a"), "answer 2 fwd=miss; stored")
	c.want(c.get("/api/a", "Cache-Control", "no-store"), "answer 2 hit")
	c.want(c.get("/api/a", "Cache-Control", "no-store, no-cache"), "answer 3 fwd=miss")
	c.want(c.get("/api/a"), "answer 2 hit")
}

// Header fields that are no part of the key do not reach the function, so they cannot poison what others get.
func TestCachePoisoning(t *testing.T) {
	c := newCached(t, policy.Cache{TTL: policy.Duration(time.Hour)})
	c.answer = func(w http.ResponseWriter, r *http.Request, _ int) {
		for _, name := range []string{"X-Forwarded-Host", "X-Forwarded-Proto", "X-Original-URL", "Cookie"} {
			fmt.Fprint(w, r.Header.Get(name))
		}
	}
	c.get("/api/a", "X-Forwarded-Host", "evil", "X-Forwarded-Proto", "evil", "X-Original-URL", "evil", "Cookie", "evil")
	c.want(c.get("/api/a"), "hit")
	// A path that only looks like a file is not another operation, and is not stored.
	c.problem(c.call("GET", "/api/a/x.css", "", nil), 404)
	c.problem(c.call("GET", "/api/a%2fx.css", "", nil), 404)
	c.problem(c.call("GET", "/api/mine/x.css", c.token(), nil), 404)
}

// Vary chooses among stored answers.
func TestCacheVary(t *testing.T) {
	c := newCached(t, policy.Cache{TTL: policy.Duration(time.Hour)})
	c.answer = func(w http.ResponseWriter, r *http.Request, call int) {
		w.Header().Set("Vary", "accept-language, Accept")
		fmt.Fprint(w, r.Header.Get("Accept-Language"), call)
	}
	c.want(c.get("/api/a", "Accept-Language", "de"), "de1 fwd=miss; stored")
	c.want(c.get("/api/a", "Accept-Language", "en"), "en2 fwd=miss; stored")
	c.want(c.get("/api/a", "Accept-Language", "de"), "de1 hit")
	c.want(c.get("/api/a", "Accept-Language", "de", "Accept", "text/html"), "de3 fwd=miss; stored")
	c.want(c.get("/api/a", "Accept-Language", "en", "User-Agent", "x"), "en2 hit")
}

// A caller that has the answer gets 304, and a stale answer is validated with its tag.
func TestCacheValidates(t *testing.T) {
	c := newCached(t, policy.Cache{TTL: policy.Duration(time.Minute)})
	var asked []string
	c.answer = func(w http.ResponseWriter, r *http.Request, call int) {
		asked = append(asked, r.Header.Get("If-None-Match"))
		w.Header().Set("ETag", `"v1"`)
		if r.Header.Get("If-None-Match") == `"v1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, call)
	}
	c.want(c.get("/api/a", "If-None-Match", `"v0"`), "1 fwd=miss; stored")
	for _, tag := range []string{`"v1"`, `W/"v1"`, `"v0", "v1"`, `*`} {
		if w := c.call("GET", "/api/a", "", nil, "If-None-Match", tag); w.Code != 304 || w.Body.Len() > 0 {
			t.Errorf("%s: got %d %s", tag, w.Code, w.Body)
		}
	}
	c.now = c.now.Add(2 * time.Minute)
	c.want(c.get("/api/a"), "1 fwd=miss; stored")
	c.want(c.get("/api/a"), "1 hit")
	if got := strings.Join(asked, ";"); got != `;"v1"` {
		t.Errorf("the function was asked with %s", got)
	}
}

// While an answer is fetched anew, or cannot be, the stale one is given for a while.
func TestCacheStale(t *testing.T) {
	c := newCached(t, policy.Cache{
		TTL: policy.Duration(10 * time.Second), StaleWhileRevalidate: policy.Duration(10 * time.Second),
		StaleIfError: policy.Duration(time.Minute),
	})
	refreshed := make(chan struct{})
	release := make(chan struct{})
	c.answer = func(w http.ResponseWriter, _ *http.Request, call int) {
		if call == 2 {
			<-release
			defer close(refreshed)
		}
		fmt.Fprint(w, call)
	}
	c.want(c.get("/api/a"), "1 fwd=miss; stored")
	c.now = c.now.Add(15 * time.Second)
	c.want(c.get("/api/a"), "1 hit; fwd=stale")
	c.want(c.get("/api/a"), "1 hit; fwd=stale") // one refresh is enough
	close(release)
	<-refreshed
	for c.get("/api/a") != "2 hit" { // until the answer has been stored
		continue
	}
	c.mu.Lock()
	c.answer = func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(http.StatusBadGateway) }
	c.mu.Unlock()
	c.now = c.now.Add(60 * time.Second)
	c.want(c.get("/api/a"), "2 hit; fwd=stale; fwd-status=502")
	c.now = c.now.Add(20 * time.Second)
	if w := c.call("GET", "/api/a", "", nil); w.Code != http.StatusBadGateway {
		t.Errorf("too old: got %d", w.Code)
	}
}

// A success of an operation that is named invalidates what was stored, and a refusal does not.
func TestCacheInvalidation(t *testing.T) {
	c := newCached(t, policy.Cache{TTL: policy.Duration(time.Hour), InvalidatedBy: []string{"PUT /api/a"}})
	status := http.StatusOK
	c.answer = func(w http.ResponseWriter, r *http.Request, call int) {
		if r.Method == "PUT" {
			w.WriteHeader(status)
		}
		fmt.Fprint(w, call)
	}
	c.get("/api/a")
	status = http.StatusConflict
	c.call("PUT", "/api/a", "", nil)
	c.want(c.get("/api/a"), "1 hit")
	c.configure("{}") // a change of the policies keeps what is stored
	c.want(c.get("/api/a"), "1 hit")
	status = http.StatusNoContent
	c.call("PUT", "/api/a", "", nil)
	c.want(c.get("/api/a"), "4 fwd=miss; stored")
}

// Concurrent requests for the same thing share one answer: all of a cached operation, those of one caller of another.
func TestCoalescing(t *testing.T) {
	c := newCached(t, policy.Cache{TTL: policy.Duration(time.Hour)})
	entered, release := make(chan struct{}), make(chan struct{})
	c.answer = func(w http.ResponseWriter, r *http.Request, call int) {
		entered <- struct{}{}
		<-release
		fmt.Fprint(w, r.URL.Path, call)
	}
	token := c.token()
	other, _, err := c.issuer.Issue(grant("bob"))
	if err != nil {
		t.Fatal(err)
	}
	results := make(chan string, 20)
	send := func(token string) {
		go func() { results <- c.call("GET", "/api/mine", token, nil).Body.String() }()
	}
	send(token)
	<-entered
	waiting := gateway.Waiting(c.gateway)
	for range 9 {
		send(token)
	}
	waiting(9)
	send(other)
	<-entered // another caller does not wait
	close(release)
	got := map[string]int{}
	for range 11 {
		got[<-results]++
	}
	if got["/api/mine1"] != 10 || got["/api/mine2"] != 1 || c.calls != 2 {
		t.Errorf("got %v with %d calls", got, c.calls)
	}
}

// An answer that is too long to be held back, or that comes in pieces, reaches the caller and is not stored.
func TestCacheLongAnswers(t *testing.T) {
	c := newCached(t, policy.Cache{TTL: policy.Duration(time.Hour)})
	c.answer = func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.URL.RawQuery == "pieces" {
			_, _ = io.WriteString(w, "a")
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "b")
			return
		}
		for range 3 {
			_, _ = w.Write(make([]byte, 1<<19))
		}
	}
	for target, want := range map[string]int{"/api/a": 3 << 19, "/api/a?pieces": 2} {
		before := c.calls
		for range 2 {
			if w := c.call("GET", target, "", nil); w.Body.Len() != want || w.Code != 200 {
				t.Errorf("%s: got %d and %d bytes, want %d", target, w.Code, w.Body.Len(), want)
			}
		}
		if c.calls != before+2 {
			t.Errorf("%s: %d calls", target, c.calls-before)
		}
	}
}

// A panic of the function is a problem, and does not leave others waiting.
func TestCachePanic(t *testing.T) {
	c := newCached(t, policy.Cache{TTL: policy.Duration(time.Hour)})
	c.configure("operations: {GET /api/a: {compress: true}}")
	c.answer = func(http.ResponseWriter, *http.Request, int) { panic("a fault") }
	for range 2 {
		c.problem(c.call("GET", "/api/a", "", nil, "Accept-Encoding", "gzip"), 500)
	}
}

func TestCacheRefused(t *testing.T) {
	f := newFixture(t)
	for _, c := range [][2]string{
		{"operations: {GET /api/orders: {cache: {ttl: 1s}}}",
			"f:1: operations.GET /api/orders.cache: want a public operation that only reads"},
		{"operations: {POST /api/users: {cache: {ttl: 1s}}}",
			"f:1: operations.POST /api/users.cache: want a public operation that only reads"},
		{"defaults: {cache: {stale_if_error: -1s}}",
			"f:1: defaults.cache.stale_if_error: want a duration"},
		{"operations: {GET /api/orders: {cache: {invalidated_by: [PUT /x]}}}",
			"f:1: operations.GET /api/orders.cache.invalidated_by[0]: want the method"},
	} {
		document, want := c[0], c[1]
		err := f.gateway.(*gateway.Gateway).Configure("f", []byte(document))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", document, err, want)
		}
	}
}

// An environment that closes an operation whose answers are stored has none of them stored.
func TestClosedOperationIsNotStored(t *testing.T) {
	c := newCached(t, policy.Cache{TTL: policy.Duration(time.Hour)})
	c.want(c.get("/api/a"), "answer 1 fwd=miss; stored")
	c.configure("operations: {GET /api/a: {access: authenticated}}")
	if w := c.call("GET", "/api/a", "", nil); w.Code != http.StatusUnauthorized {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	token := c.token()
	for call := range 2 {
		w := c.call("GET", "/api/a", token, nil)
		if w.Body.String() != fmt.Sprint("answer ", 2+call) || w.Header().Get("Cache-Status") != "" {
			t.Errorf("got %s, %v", w.Body, w.Header())
		}
	}
}

// An answer from the cache still says that it depends on the origin of the script.
func TestCacheAndOrigins(t *testing.T) {
	p := policy.Policy{Cache: &policy.Cache{TTL: policy.Duration(time.Hour)}}
	h := func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Vary", "Accept-Language") }
	f := newFixture(t, func(cfg *gateway.Config) { cfg.Origins = []string{"https://shop.example"} }, with("a", h,
		function.Operation{Method: "GET", Path: "/api/a", Access: function.Public, Policy: p}))
	for _, state := range []string{"ebb; fwd=miss; stored", "ebb; hit"} {
		h := f.call("GET", "/api/a", "", nil).Header()
		if got := strings.Join(h["Vary"], ", "); got != "Origin, Accept-Language" || h.Get("Cache-Status") != state {
			t.Errorf("%s: Vary is %q, Cache-Status %q", state, got, h.Get("Cache-Status"))
		}
	}
}
