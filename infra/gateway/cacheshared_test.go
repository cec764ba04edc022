package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/cache"
	"github.com/ebb-dev/ebb/infra/cache/redis"
	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/policy"
	"github.com/ebb-dev/ebb/infra/ratelimit/redis/redistest"
)

// sharing returns two gateways with one cache in Redis, before functions that answer with the number of the call of
// both.
func sharing(t *testing.T, url string) (a, b *cached) {
	calls := make(chan int, 1)
	calls <- 0
	p := policy.Cache{TTL: policy.Duration(time.Hour), InvalidatedBy: []string{"PUT /api/a"}}
	both := [2]*cached{}
	for i := range both {
		store, err := redis.Open(url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		both[i] = newCached(t, p, func(cfg *gateway.Config) { cfg.Cache = patient{store} })
		both[i].answer = func(w http.ResponseWriter, _ *http.Request, _ int) {
			n := <-calls + 1
			calls <- n
			fmt.Fprint(w, n)
		}
	}
	return both[0], both[1]
}

// patient is a store that is asked until it answers: a busy machine may take longer than a request would wait.
type patient struct{ cache.Store }

func (p patient) Get(ctx context.Context, key string, tags ...string) (v []byte, l cache.Lease, err error) {
	for range 100 {
		if v, l, err = p.Store.Get(ctx, key, tags...); err == nil {
			break
		}
	}
	return v, l, err
}

// Several gateways share stored answers and invalidations.
func TestSharedCache(t *testing.T) {
	a, b := sharing(t, redistest.Start(t).URL())
	a.want(a.get("/api/a"), "1 fwd=miss; stored")
	b.want(b.get("/api/a"), "1 hit")
	b.call("PUT", "/api/a", "", nil) // the second call
	a.want(a.get("/api/a"), "3 fwd=miss; stored")
	b.want(b.get("/api/a"), "3 hit")
}

// Answers that are private to a caller, and requests with credentials, leave nothing in a cache that is shared.
func TestNothingPrivateIsShared(t *testing.T) {
	store := &recordingStore{}
	c := newCached(t, policy.Cache{TTL: policy.Duration(time.Hour)}, func(cfg *gateway.Config) { cfg.Cache = store })
	for _, header := range []string{
		"Set-Cookie: session=secret", "Cache-Control: private", "Cache-Control: no-store", `Cache-Control: Private="x"`,
		"Cache-Control: max-age=60\nCache-Control: NO-STORE", "Vary: *", "Cache-Control: no-cache",
	} {
		c.answer = func(w http.ResponseWriter, _ *http.Request, _ int) {
			for line := range strings.SplitSeq(header, "\n") {
				name, value, _ := strings.Cut(line, ": ")
				w.Header().Add(name, value)
			}
			fmt.Fprint(w, "secret")
		}
		c.get("/api/a")
		c.get("/api/a", "Cookie", "session=secret")
		if len(store.stored) > 0 {
			t.Fatalf("%s: got %q", header, store.stored)
		}
	}
	c.answer = func(w http.ResponseWriter, _ *http.Request, _ int) { fmt.Fprint(w, "secret") }
	c.call("GET", "/api/a", c.token(), nil)
	c.get("/api/a", "Authorization", "")
	c.get("/api/a", "Authorization", "Basic c2VjcmV0")
	c.call("GET", "/api/mine", c.token(), nil)
	c.call("GET", "/api/a/private.css", c.token(), nil)
	if len(store.stored) > 0 {
		t.Errorf("got %q", store.stored)
	}
	if c.get("/api/a"); len(store.stored) != 1 {
		t.Errorf("%d answers are stored, want the public one", len(store.stored))
	}
}

// recordingStore notes what it is to store, and has nothing.
type recordingStore struct{ stored []string }

func (s *recordingStore) Get(context.Context, string, ...string) ([]byte, cache.Lease, error) {
	return nil, "lease", nil
}

func (s *recordingStore) Set(
	_ context.Context, _ string, value []byte, _ time.Duration, _ cache.Lease, _ ...string,
) error {
	s.stored = append(s.stored, string(value))
	return nil
}

func (s *recordingStore) Invalidate(context.Context, ...string) error             { return nil }
func (s *recordingStore) Suspend(context.Context, time.Duration, ...string) error { return nil }
func (s *recordingStore) Close() error                                            { return nil }

// An answer that many requests have waited for is stored once.
func TestSharedAnswerIsStoredOnce(t *testing.T) {
	store := &lockedStore{}
	c := newCached(t, policy.Cache{TTL: policy.Duration(time.Hour)}, func(cfg *gateway.Config) { cfg.Cache = store })
	entered, release, got := make(chan bool, 10), make(chan bool), make(chan string, 10)
	c.answer = func(w http.ResponseWriter, _ *http.Request, call int) {
		entered <- true
		<-release
		fmt.Fprint(w, call)
	}
	for i := range 10 {
		go func() { got <- c.get("/api/a") }()
		if i == 0 {
			<-entered
		}
	}
	gateway.Waiting(c.gateway)(9)
	close(release)
	for range 10 {
		c.want(<-got, "1 fwd=miss; stored")
	}
	if len(store.stored) != 1 {
		t.Errorf("the answer was stored %d times", len(store.stored))
	}
}

// lockedStore is a recordingStore for concurrent requests.
type lockedStore struct {
	recordingStore
	mu sync.Mutex
}

func (s *lockedStore) Set(
	ctx context.Context, key string, value []byte, ttl time.Duration, lease cache.Lease, tags ...string,
) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recordingStore.Set(ctx, key, value, ttl, lease, tags...)
}

// awayStore is a store that cannot be reached, or that has what nobody can read.
type awayStore struct {
	recordingStore
	data []byte
	err  error
}

func (s *awayStore) Get(context.Context, string, ...string) ([]byte, cache.Lease, error) {
	return s.data, "", s.err
}
func (s *awayStore) Invalidate(context.Context, ...string) error { return s.err }

// While the store is away, and where it has an answer of another version or a damaged one, the function answers.
func TestCacheAway(t *testing.T) {
	before := &recordingStore{}
	newCached(t, policy.Cache{TTL: policy.Duration(time.Hour)}, func(cfg *gateway.Config) { cfg.Cache = before }).
		get("/api/a")
	other := append([]byte{9}, before.stored[0][1:]...)
	for _, store := range []*awayStore{
		{err: errors.New("away")}, {data: other}, {data: []byte{1, 2, 0, 0, 0, 0, 2, 0x90, 3}},
		{data: []byte{1}}, {data: []byte{1, 2, 2, 2, 2, 2, 200}},
		{data: []byte("\x01\x90\x03\x00\x00\x00\x00\x00\xff\xff\xff\xff\x0f")},
	} {
		c := newCached(t, policy.Cache{TTL: policy.Duration(time.Hour), InvalidatedBy: []string{"PUT /api/a"}},
			func(cfg *gateway.Config) { cfg.Cache = store })
		for call := range 2 {
			if got, want := c.get("/api/a"), fmt.Sprint("answer ", call+1, " fwd=miss; stored"); got != want {
				t.Errorf("%q: got %q, want %q", store.data, got, want)
			}
		}
		if w := c.call("PUT", "/api/a", "", nil); w.Code != 200 {
			t.Errorf("a change: got %d", w.Code)
		}
	}
}

// Only the fields by which an answer is chosen reach the function: no other one of a stranger can poison what others
// get. A field that the operation declares is a part of what the answer is stored under.
func TestUnkeyedHeaders(t *testing.T) {
	c := newCached(t, policy.Cache{TTL: policy.Duration(time.Hour), Headers: []string{"x-plan"}})
	c.answer = func(w http.ResponseWriter, r *http.Request, _ int) {
		r.Header.Del("X-Request-Id")
		for _, name := range slices.Sorted(maps.Keys(r.Header)) {
			fmt.Fprint(w, name, "=", strings.Join(r.Header[name], ","), ";")
		}
	}
	evil := []string{"Accept", "text/html", "X-Plan", "a"}
	for _, name := range []string{
		"X-Forwarded-Host", "X-Forwarded-For", "X-Forwarded-Scheme", "X-Host", "X-Original-URL", "X-Rewrite-URL",
		"X-HTTP-Method-Override", "User-Agent", "Referer", "Origin", "Cookie", "X-Made-Up", "Accept-Made-Up", "Via",
		"True-Client-IP", "X-Real-IP", "Content-Type", "Content-Language",
	} {
		evil = append(evil, name, "evil")
	}
	want := "Accept=text/html;X-Plan=a;"
	c.want(c.get("/api/a", evil...), want+" fwd=miss; stored")
	c.want(c.get("/api/a", "X-Plan", "a"), want+" hit")
	c.want(c.get("/api/a", "X-Plan", "b"), "X-Plan=b; fwd=miss; stored")
	c.want(c.get("/api/a", "X-Plan", "a", "X-Plan", "b"), "X-Plan=b; hit") // Set replaces
	c.want(c.get("/api/a"), "fwd=miss; stored")
}

// A change invalidates before its caller gets the answer, also when it has failed on the way back.
func TestChangeInvalidatesFirst(t *testing.T) {
	c := newCached(t, policy.Cache{TTL: policy.Duration(time.Hour), InvalidatedBy: []string{"PUT /api/a"}})
	read := c.answer
	for name, change := range map[string]func(w http.ResponseWriter){
		"as soon as the answer begins": func(w http.ResponseWriter) {
			w.WriteHeader(200)
			c.answer = read
			if got := c.get("/api/a"); !strings.HasSuffix(got, "fwd=miss; stored") {
				t.Errorf("got %q when the change was answered", got)
			}
		},
		"503":     func(w http.ResponseWriter) { w.WriteHeader(503) },
		"a panic": func(http.ResponseWriter) { panic("a fault") },
		"nothing": func(http.ResponseWriter) {},
		"hints":   func(w http.ResponseWriter) { w.WriteHeader(103); w.WriteHeader(204) },
	} {
		c.answer = read
		c.get("/api/a")
		c.answer = func(w http.ResponseWriter, r *http.Request, call int) {
			if r.Method == http.MethodPut {
				change(w)
				return
			}
			read(w, r, call)
		}
		c.call("PUT", "/api/a", "", nil)
		if got := c.get("/api/a"); name != "as soon as the answer begins" && !strings.HasSuffix(got, "fwd=miss; stored") {
			t.Errorf("%s: got %q after the change", name, got)
		}
	}
}

// What the policy of a cache may name.
func TestCacheHeadersRefused(t *testing.T) {
	f := newFixture(t)
	for _, c := range [][2]string{
		{"{headers: [Cookie]}", "cache.headers[0]: want a field without credentials"},
		{"{headers: [a, AUTHORIZATION]}", "cache.headers[1]: want"},
		{"{invalidated_by_events: [{subject: id}]}", "cache.invalidated_by_events[0].type: want a type"},
	} {
		err := f.gateway.(*gateway.Gateway).Configure("f", []byte("defaults: {cache: "+c[0]+"}"))
		if err == nil || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: got %v", c[0], err)
		}
	}
}
