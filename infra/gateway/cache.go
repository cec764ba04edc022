package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebb-dev/ebb/infra/cache"
	"github.com/ebb-dev/ebb/infra/cache/memory"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/httprequest"
	"github.com/ebb-dev/ebb/infra/policy"
)

const (
	maxStored    = 1 << 20 // bytes of an answer that is stored or shared
	fetchTimeout = 30 * time.Second
	validateTime = time.Hour // in which an answer with an ETag that is too old to be given can be validated
)

// caches stores answers, and has requests for the same thing share one answer. An answer has the tag of its operation,
// and one for each parameter of its path by which events invalidate it.
type caches struct {
	store cache.Store
	now   func() time.Time
	log   *slog.Logger

	waiting atomic.Int64 // requests that wait for the answer of another one
	mu      sync.Mutex
	flights map[string]*flight
}

// flight is a request on its way to a function that others wait for.
type flight struct {
	done   chan struct{}
	answer *captured // nil: it cannot be shared
}

func newCaches(cfg Config) *caches {
	store := cfg.Cache
	if store == nil {
		store = memory.New(0, cfg.Now)
	}
	return &caches{store: store, now: cfg.Now, log: cfg.Logger, flights: map[string]*flight{}}
}

// cache gives stored answers, and has concurrent requests for the same thing share one, where the operation declares
// it.
func (g *Gateway) cache(next Handler) Handler {
	return func(x *Exchange) {
		p := x.Route.Policy
		switch reads := x.Request.Method == http.MethodGet && bodyless(x.Request) && x.Request.Header.Get("Range") == "" &&
			!streams(x.Request.Header); {
		case reads && p.Cache != nil && x.Route.public() && len(x.Request.Header["Authorization"]) == 0:
			g.fromCache(x, next)
		case reads && p.Coalesce:
			k := key("shared", x.Route.answers, strings.ToLower(x.Request.Host), x.Request.URL.RequestURI(),
				x.Caller.Subject, strings.Join(x.Request.Header["Authorization"], ","), canonical(x.Request.Header))
			g.caches.share(x, k, next)
		case len(x.Route.invalidates) > 0:
			g.change(x, next)
		default:
			next(x)
		}
	}
}

func bodyless(r *http.Request) bool { return r.Body == nil || r.Body == http.NoBody }

// streams reports whether the answer to a request has no end: it switches to another protocol, or has server-sent
// events.
func streams(h http.Header) bool {
	if h["Upgrade"] != nil {
		return true
	}
	accepted := strings.ToLower(strings.Join(h["Accept"], ","))
	return strings.Contains(accepted, "text/event-stream")
}

// storeFor sets what the answers of a route are stored for. The rule is the one that its requests meet, which is empty
// for the route of the function that declares the operation.
func (r *Route) storeFor(rule policy.Split, env environment) {
	r.byHost = len(env.Hosts)+len(r.hosts) > 0 || rule.Host != ""
	r.keyed = nil
	if r.Policy.Cache != nil {
		r.keyed = append(r.keyed, r.Policy.Cache.Headers...)
	}
	r.keyed = append(slices.AppendSeq(r.keyed, maps.Keys(rule.Header)), env.Versions.Header)
	for i, name := range r.keyed {
		r.keyed[i] = http.CanonicalHeaderKey(name)
	}
	slices.Sort(r.keyed)
	r.answers = answersOf(r, env)
}

// answersOf returns a text that is the same for the same route with the same policy about answers. Gateways that share
// a store, and have policies of their own, do not give one another's answers then: one of another canary, one that is
// older or longer than the policy allows. They share the tags, so that a change that one of them carries out
// invalidates the answers of all.
func answersOf(r *Route, env environment) string {
	var instances []string
	for _, a := range env.Upstreams[r.Function] {
		instances = append(instances, a.String())
	}
	slices.Sort(instances)
	text, err := json.Marshal([]any{r.Function, instances, r.Policy.Cache, r.Policy.MaxAnswer, r.keyed, r.byHost})
	if err != nil {
		panic(err) // it is text and numbers
	}
	return key(string(text))
}

// storedHost returns the host that the function of a cached operation sees, and that its answers are stored for: where
// the environment names hosts, the one that the request was sent to, without its port. Elsewhere it is the name of the
// function: a stranger who makes up hosts would fill the store.
func (x *Exchange) storedHost() string {
	if !x.Route.byHost {
		return x.Route.Function
	}
	host := strings.ToLower(hostOf(x.Request))
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host
}

// target returns what a request asks for, with the fields that the operation declares: what its answer is stored under.
func (x *Exchange) target() string {
	scheme := "http"
	if x.Request.TLS != nil {
		scheme = "https" // the function is told
	}
	return key("cache", x.Route.answers, x.version, scheme, x.storedHost(), x.Request.URL.RequestURI(), keyed(x))
}

// canonical returns the fields that can change an answer, as one text: all but those that name the one request.
func canonical(h http.Header) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(h)) {
		switch name {
		case "X-Request-Id", "Traceparent", "Tracestate", "Authorization", "X-Forwarded-For":
			continue
		}
		b.WriteString(name + ":" + strings.Join(h[name], ",") + "\n")
	}
	return b.String()
}

// passed are the header fields that reach the function of a cached operation: those by which answers are chosen and
// validated, which Vary names, and those that only name the request. Others are no part of what an answer is stored
// under, and could poison it; see also policy.Cache.Headers.
var passed = []string{
	"Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language", "Cache-Control", "If-Match", "If-Modified-Since",
	"If-None-Match", "If-Range", "If-Unmodified-Since", "Pragma", "Traceparent", "Tracestate", "X-Request-Id",
}

// keyed removes the header fields that must not reach the function, and returns those that answers are stored for, as
// one text.
func keyed(x *Exchange) string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(x.Request.Header)) {
		switch {
		case slices.Contains(x.Route.keyed, name):
			text.WriteString(key(append([]string{name}, x.Request.Header[name]...)...))
		case !slices.Contains(passed, name):
			delete(x.Request.Header, name)
		}
	}
	return text.String()
}

// fromCache answers from the cache, or with what the function answers, which is stored.
func (g *Gateway) fromCache(x *Exchange, next Handler) {
	c, now := g.caches, g.caches.now()
	x.address = x.client() // keyed removes the fields that tell it
	target := x.target()
	asked := directivesOf(x.Request.Header)
	old, lease := c.get(x, target)
	switch {
	case old != nil && old.isFresh(now) && !asked.has("no-cache"):
		c.answer(x, old, "hit")
		return
	case asked.has("only-if-cached"):
		x.Refuse(fault.New(fault.Timeout, "the answer is not in the cache"))
		return
	case old != nil && old.age(now) < old.fresh+old.stale && !asked.has("no-cache"):
		c.answer(x, old, "hit; fwd=stale")
		g.refresh(x, target, old, lease, next)
		return
	}
	c.fetch(x, target, old, lease, next)
}

// get returns the stored answer for a request, nil if there is none, and the lease for another one. A store that is
// away has none.
func (c *caches) get(x *Exchange, target string) (*stored, cache.Lease) {
	ctx, tags := x.Request.Context(), x.Route.tags(x.Request)
	data, lease, err := c.store.Get(ctx, target, tags...)
	s := decodeStored(data)
	if err == nil && s != nil && len(s.vary) > 0 {
		data, lease, err = c.store.Get(ctx, variant(target, s.vary, x.Request.Header), tags...)
		s = decodeStored(data)
	}
	if err != nil {
		c.log.DebugContext(ctx, "the cache cannot be read", "error", err)
		return nil, ""
	}
	return s, lease
}

// put stores an answer, unless it was invalidated since the lease.
func (c *caches) put(x *Exchange, target string, s *stored, lease cache.Lease) {
	ctx, tags := context.WithoutCancel(x.Request.Context()), x.Route.tags(x.Request)
	ttl := s.at.Sub(c.now()) + s.fresh + max(s.stale, s.onError)
	if s.header.Get("ETag") != "" {
		ttl += validateTime
	}
	var err error
	if len(s.vary) > 0 {
		err = c.store.Set(ctx, target, encodeStored(&stored{vary: s.vary}), ttl, lease, tags...)
		target = variant(target, s.vary, x.Request.Header)
	}
	if err = errors.Join(err, c.store.Set(ctx, target, encodeStored(s), ttl, lease, tags...)); err != nil {
		c.log.DebugContext(ctx, "the cache cannot be written", "error", err)
	}
}

// variant returns the key of the answer for the header fields that it depends on.
func variant(target string, vary []string, h http.Header) string {
	parts := []string{target}
	for _, name := range vary {
		parts = append(parts, name, strings.Join(h[name], ","))
	}
	return key(parts...)
}

// answer gives a stored answer, or 304 where the caller has it.
func (c *caches) answer(x *Exchange, s *stored, status string) {
	h := x.Writer.Header()
	copyHeader(h, s.header)
	if strings.HasPrefix(status, "hit") {
		h.Set("Age", strconv.Itoa(int(s.age(c.now())/time.Second)))
	}
	h.Set("Cache-Status", "ebb; "+status)
	if tag := h.Get("ETag"); tag != "" && s.status == http.StatusOK &&
		httprequest.NoneMatch(x.Request.Header.Get("If-None-Match"), tag) {
		h.Del("Content-Length")
		h.Del("Content-Type")
		x.Writer.WriteHeader(http.StatusNotModified)
		return
	}
	x.Writer.WriteHeader(s.status)
	_, _ = x.Writer.Write(s.body)
}

// copyHeader sets the fields of a function's answer. What its answer varies by is added to what it varies by for the
// policies before.
func copyHeader(to, from http.Header) {
	before := to["Vary"]
	for name, values := range from {
		to[name] = slices.Clone(values)
	}
	if len(from["Vary"]) > 0 {
		to["Vary"] = append(slices.Clone(before), from["Vary"]...)
	}
}

// fetch asks the function, with the tag of what is stored, and answers. Requests for the same thing share one fetch.
func (c *caches) fetch(x *Exchange, target string, old *stored, lease cache.Lease, next Handler) {
	match := x.Request.Header.Get("If-None-Match")
	r := x.Own()
	r.Host, r.Header = x.storedHost(), r.Header.Clone()
	for _, name := range []string{"If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range"} {
		r.Header.Del(name)
	}
	if old != nil && old.header.Get("ETag") != "" {
		r.Header.Set("If-None-Match", old.header.Get("ETag"))
	}
	got, asked := c.capture(x, key("fetch", target, string(lease), canonical(r.Header)), next)
	r.Header.Del("If-None-Match")
	if match != "" {
		r.Header.Set("If-None-Match", match)
	}
	now := c.now()
	switch {
	case got == nil: // it was sent already
		return
	case got.status == http.StatusNotModified && old != nil:
		h := old.header.Clone()
		for name, values := range got.header {
			if name != "Content-Length" && name != "Content-Type" {
				h[name] = values
			}
		}
		h.Del("Age")
		got = &captured{status: old.status, header: h, body: old.body}
	case got.status >= 500 && old != nil && old.age(now) < old.fresh+old.onError:
		c.answer(x, old, "hit; fwd=stale; fwd-status="+strconv.Itoa(got.status))
		return
	}
	s := newStored(got.status, got.header, got.body, x.Route.Policy.Cache, now)
	if s == nil || directivesOf(x.Request.Header).has("no-store") { // RFC 9111, 5.2.1.5
		c.answer(x, &stored{status: got.status, header: got.header, body: got.body, at: now}, "fwd=miss")
		return
	}
	if asked {
		c.put(x, target, s, lease)
	}
	c.answer(x, s, "fwd=miss; stored")
}

// refresh fetches an answer for the next callers.
func (g *Gateway) refresh(x *Exchange, target string, old *stored, lease cache.Lease, next Handler) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.Request.Context()), fetchTimeout)
	later := &Exchange{
		Request: x.Request.Clone(ctx), own: true, Route: x.Route, table: x.table, address: x.address,
		Writer: discard{header: http.Header{}},
	}
	flight := key("refresh", target, string(lease))
	c := g.caches
	c.mu.Lock()
	_, running := c.flights[flight]
	if !running {
		c.flights[flight] = nil
	}
	c.mu.Unlock()
	if running {
		cancel()
		return
	}
	go func() {
		defer cancel()
		defer func() {
			c.mu.Lock()
			delete(c.flights, flight)
			c.mu.Unlock()
			if cause := recover(); cause != nil && cause != http.ErrAbortHandler {
				g.cfg.Logger.WarnContext(ctx, "refreshing a stored answer panicked", "panic", cause)
			}
		}()
		c.fetch(later, target, old, lease, next)
	}()
}

// share answers a request with what a request for the same thing, which is on its way, is answered.
func (c *caches) share(x *Exchange, k string, next Handler) {
	if got, _ := c.capture(x, k, next); got != nil {
		copyHeader(x.Writer.Header(), got.header)
		x.Writer.WriteHeader(got.status)
		_, _ = x.Writer.Write(got.body)
	}
}

// capture has the function answer and returns the answer; nil when it was sent to the caller already, because it is too
// long or comes in pieces. One request of those with the same key asks, and the others wait for its answer. When that
// cannot be shared, each asks for itself. It reports whether this request has asked.
func (c *caches) capture(x *Exchange, k string, next Handler) (got *captured, asked bool) {
	c.mu.Lock()
	if f := c.flights[k]; f != nil {
		c.mu.Unlock()
		c.waiting.Add(1)
		select {
		case <-f.done:
		case <-x.Request.Context().Done():
			f = &flight{}
		}
		c.waiting.Add(-1)
		if f.answer != nil {
			return f.answer, false
		}
		return record(x, next, func() {}), true
	}
	f := &flight{done: make(chan struct{})}
	c.flights[k] = f
	c.mu.Unlock()
	land := sync.OnceFunc(func() {
		c.mu.Lock()
		delete(c.flights, k)
		c.mu.Unlock()
		close(f.done)
	})
	defer land()
	// Others wait for this request, so it goes on when its own caller has gone away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.Request.Context()), fetchTimeout)
	defer cancel()
	x.Request, x.own = x.Request.WithContext(ctx), true
	got = record(x, next, land)
	if got != nil && x.mayShare(got.header) {
		f.answer = got
	}
	return got, true
}

// mayShare reports whether an answer may be given to the other requests that wait for it. Those of an operation that is
// not public are of the same caller.
func (x *Exchange) mayShare(h http.Header) bool {
	if x.Route.public() {
		return sharable(h)
	}
	return len(h["Set-Cookie"]) == 0
}

// captured is an answer that was not sent yet. It is not changed once others can see it.
type captured struct {
	status int
	header http.Header
	body   []byte
}

// record runs the handler and returns its answer; nil when it was sent, before which it calls sending.
func record(x *Exchange, next Handler, sending func()) *captured {
	before := x.Writer
	w := &recording{to: before, header: http.Header{}, sending: sending}
	x.Writer = w
	next(x)
	x.Writer = before
	if w.sent {
		return nil
	}
	if w.status == 0 {
		w.status = http.StatusOK
	}
	for _, name := range []string{"Date", "X-Request-Id", "Connection", "Keep-Alive"} {
		w.header.Del(name)
	}
	return &captured{w.status, w.header, w.body.Bytes()}
}

// recording is a writer that holds an answer back, until it is too long or comes in pieces.
type recording struct {
	to     http.ResponseWriter
	header http.Header
	status int
	body   bytes.Buffer
	sent   bool

	sending func()
}

// Header implements http.ResponseWriter.
func (w *recording) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *recording) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

// Write implements io.Writer.
func (w *recording) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if !w.sent && w.body.Len()+len(b) <= maxStored {
		return w.body.Write(b)
	}
	w.send()
	return w.to.Write(b)
}

// send sends what was held back. What follows is sent at once.
func (w *recording) send() {
	if w.sent {
		return
	}
	w.WriteHeader(http.StatusOK)
	w.sent = true
	w.sending()
	copyHeader(w.to.Header(), w.header)
	w.to.WriteHeader(w.status)
	_, _ = w.to.Write(w.body.Bytes())
	w.body.Reset()
}

// Flush implements http.Flusher.
func (w *recording) Flush() {
	w.send()
	_ = http.NewResponseController(w.to).Flush()
}
