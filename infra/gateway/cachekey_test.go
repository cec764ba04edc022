package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/cache"
	"github.com/ebb-dev/ebb/infra/cache/memory"
	"github.com/ebb-dev/ebb/infra/discovery/static"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/policy"
)

// at returns what get does, for a request that is sent to a host.
func (c *cached) at(host, target string) string {
	c.Helper()
	r := httptest.NewRequest("GET", target, nil)
	r.Host = host
	w := httptest.NewRecorder()
	c.gateway.ServeHTTP(w, r)
	return strings.TrimSpace(w.Body.String() + " " + strings.TrimPrefix(w.Header().Get("Cache-Status"), "ebb; "))
}

// A stranger cannot fill the cache by hosts that nobody has named: an answer is the same for all of them, because the
// function does not see which it was.
func TestMadeUpHosts(t *testing.T) {
	c := newCached(t, policy.Cache{TTL: policy.Duration(time.Hour)})
	c.answer = func(w http.ResponseWriter, r *http.Request, call int) { fmt.Fprint(w, r.Host, " ", call) }
	c.want(c.at("evil.example", "/api/a"), "a 1 fwd=miss; stored")
	for i := range 10 {
		c.want(c.at(fmt.Sprintf("%d.example:%d", i, i+1), "/api/a"), "a 1 hit")
	}
}

// Where hosts are named an answer is for one of them, whatever port and case it is written with, and the function sees
// the name.
func TestNamedHosts(t *testing.T) {
	c := newCached(t, policy.Cache{TTL: policy.Duration(time.Hour)})
	c.answer = func(w http.ResponseWriter, r *http.Request, call int) { fmt.Fprint(w, r.Host, " ", call) }
	for i, document := range []string{
		"hosts: [one.example, two.example, '::1']",
		"operations: {GET /api/a: {hosts: [one.example, two.example, '::1']}}",
	} {
		c.configure(document)
		path := fmt.Sprint("/api/a?", i)
		c.want(c.at("one.example:8080", path), fmt.Sprint("one.example ", 3*i+1, " fwd=miss; stored"))
		c.want(c.at("two.example", path), fmt.Sprint("two.example ", 3*i+2, " fwd=miss; stored"))
		c.want(c.at("[::1]:1", path), fmt.Sprint("[::1] ", 3*i+3, " fwd=miss; stored"))
		for _, host := range []string{"one.example", "ONE.example:1", "one.example.:443"} {
			c.want(c.at(host, path), fmt.Sprint("one.example ", 3*i+1, " hit"))
		}
	}
}

// Gateways with different policies do not give one another's stored answers, and a change that one of them carries out
// invalidates those of all.
func TestDifferentPoliciesShareACache(t *testing.T) {
	clock := newClock()
	store := memory.New(0, clock.Now)
	calls := 0
	h := func(w http.ResponseWriter, r *http.Request) {
		calls++
		body := fmt.Sprint(r.Header.Get("X-Plan"), calls, strings.Repeat(".", 20))
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		fmt.Fprint(w, body)
	}
	made := func(p policy.Policy, document string) *cached {
		p.Cache.InvalidatedBy = []string{"PUT /api/a"}
		c := &cached{clock: clock}
		c.fixture = newFixture(t, func(cfg *gateway.Config) { cfg.Now, cfg.Cache = clock.Now, store },
			with("a", h, function.Operation{Method: "GET", Path: "/api/a", Access: function.Public, Policy: p},
				function.Operation{Method: "PUT", Path: "/api/a", Access: function.Public}),
			func(cfg *gateway.Config) {
				cfg.Discovery.(static.Discovery)["next"] = static.Handler(http.HandlerFunc(h))
			})
		if document != "" {
			c.configure(document)
		}
		return c
	}
	hour := policy.Duration(time.Hour)
	plain := policy.Policy{Cache: &policy.Cache{TTL: hour}}
	one, same := made(plain, ""), made(plain, "operations: {GET /api/a: {timeout: 1s}}")
	short := made(policy.Policy{Cache: &policy.Cache{TTL: hour}, MaxAnswer: 10}, "")
	brief := made(policy.Policy{Cache: &policy.Cache{TTL: policy.Duration(time.Second)}}, "")
	planned := made(policy.Policy{Cache: &policy.Cache{TTL: hour, Headers: []string{"X-Plan"}}}, "")
	other := made(plain, "operations: {GET /api/a: {split: [{function: next}]}}")
	hit := func(c *cached, headers ...string) bool { return strings.HasSuffix(c.get("/api/a", headers...), "hit") }
	if hit(one) || !hit(same) || !hit(one) {
		t.Error("gateways with the same policy do not share an answer")
	}
	short.problem(short.call("GET", "/api/a", "", nil), 502)
	for i, c := range []*cached{brief, planned, other} {
		if hit(c) || !hit(c) {
			t.Errorf("%d: the answer of another policy was given, or its own was not stored", i)
		}
	}
	brief.call("PUT", "/api/a", "", nil)
	for i, c := range []*cached{one, planned, other} {
		if hit(c) {
			t.Errorf("%d: the answer is from before a change", i)
		}
	}
}

var _ cache.Store = (*memory.Store)(nil)

// canary is a gateway with a cached operation, some of whose requests go to the function next.
func canary(t *testing.T, document string) *cached {
	c := newCached(t, policy.Cache{TTL: policy.Duration(time.Hour), InvalidatedBy: []string{"PUT /api/a"}},
		next(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Canary", r.Header.Get("X-Canary"))
			fmt.Fprint(w, "next ", r.Header.Get("X-Canary"), r.Header.Get("X-Api"), r.Header.Get("Cookie"), r.Host)
		}))
	c.configure(document)
	return c
}

// The answers of a canary are stored as its own: no other caller gets one, whichever comes first.
func TestCanaryAnswers(t *testing.T) {
	c := canary(t, `operations: {GET /api/a: {split: [{function: next, header: {X-Canary: "*"}, sticky: seen}]}}`)
	c.want(c.get("/api/a", "X-Canary", "x", "Cookie", "a=b"), "next xnext fwd=miss; stored")
	c.want(c.get("/api/a"), "answer 1 fwd=miss; stored")
	c.want(c.get("/api/a", "X-Canary", "x"), "next xnext hit")
	c.want(c.get("/api/a", "X-Canary", "y"), "next ynext fwd=miss; stored")
	c.want(c.get("/api/a"), "answer 1 hit")
	w := c.call("GET", "/api/a", "", nil, "X-Canary", "x")
	if got := w.Header(); got.Get("Set-Cookie") == "" || got.Get("Vary") != "X-Canary" || got.Get("X-Canary") != "x" {
		t.Errorf("a stored answer has the header %v", got)
	}
	c.call("PUT", "/api/a", "", nil)
	c.want(c.get("/api/a", "X-Canary", "x"), "next xnext fwd=miss; stored")
}

// The answers of a function that serves several versions, or several hosts, are stored for each.
func TestCanaryAnswersByVersionAndHost(t *testing.T) {
	c := canary(t, `
versions: {current: "1", header: X-Api}
operations:
  GET /api/a:
    split:
    - {function: next, version: "2"}
    - {function: next, version: "3"}
    - {function: next, host: "*.next.example"}
`)
	for range 2 {
		for _, version := range []string{"2", "3"} {
			if got := c.get("/api/a", "X-Api", version); !strings.HasPrefix(got, "next "+version+"next ") {
				t.Errorf("version %s: got %q", version, got)
			}
		}
		for _, host := range []string{"a.next.example", "b.next.example"} {
			if got := c.at(host, "/api/a"); !strings.HasPrefix(got, "next "+host+" ") {
				t.Errorf("%s: got %q", host, got)
			}
		}
	}
	c.want(c.get("/api/a", "X-Api", "3"), "next 3next hit")
}

// An answer that comes in pieces is not shared, and holds up no other request.
func TestPiecesAreNotShared(t *testing.T) {
	c := newCached(t, policy.Cache{TTL: policy.Duration(time.Hour)})
	entered, release, done := make(chan bool), make(chan bool), make(chan string, 2)
	c.answer = func(w http.ResponseWriter, _ *http.Request, _ int) {
		fmt.Fprint(w, "data: 1")
		w.(http.Flusher).Flush()
		entered <- true
		<-release
	}
	for range 2 {
		go func() { done <- c.get("/api/a") }()
		<-entered
	}
	close(release)
	for range 2 {
		c.want(<-done, "data: 1")
	}
}

// A stream passes by the cache: it ends when its caller goes, and lasts as long as it likes.
func TestStreamsPassByTheCache(t *testing.T) {
	c := newCached(t, policy.Cache{TTL: policy.Duration(time.Hour)})
	ctx, cancel := context.WithCancel(t.Context())
	var ended error
	c.answer = func(_ http.ResponseWriter, r *http.Request, _ int) {
		_, limited := r.Context().Deadline()
		if cancel(); limited || r.Context().Err() == nil {
			ended = errors.New("it has a deadline, or does not end with its caller")
		}
	}
	for _, accept := range []string{"text/event-stream", "text/html, Text/Event-Stream;q=0.5"} {
		r := httptest.NewRequestWithContext(ctx, "GET", "/api/a", nil)
		r.Header.Set("Accept", accept)
		c.gateway.ServeHTTP(httptest.NewRecorder(), r)
		if ended != nil {
			t.Errorf("%s: %v", accept, ended)
		}
	}
}
