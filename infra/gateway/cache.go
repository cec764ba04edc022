package gateway

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/httprequest"
)

const (
	cacheBytes   = 64 << 20 // of all stored answers
	maxStored    = 1 << 20  // bytes of an answer that is stored or shared
	fetchTimeout = 30 * time.Second
)

// caches stores answers in memory, and has requests for the same thing share one answer. Its revisions count the
// successful changes that invalidate the answers of an operation.
type caches struct {
	answers *otter.Cache[string, *stored]
	now     func() time.Time

	waiting   atomic.Int64 // requests that wait for the answer of another one
	mu        sync.Mutex
	flights   map[string]*flight
	revisions map[string]*atomic.Uint64 // by operation
}

// flight is a request on its way to a function that others wait for.
type flight struct {
	done   chan struct{}
	answer *captured // nil: it cannot be shared
}

func newCaches(now func() time.Time) *caches {
	return &caches{
		answers: otter.Must(&otter.Options[string, *stored]{
			MaximumWeight: cacheBytes,
			Weigher:       func(key string, s *stored) uint32 { return uint32(len(key)+len(s.body)) + 1024 },
		}),
		now: now, flights: map[string]*flight{}, revisions: map[string]*atomic.Uint64{},
	}
}

// revision returns the counter of an operation.
func (c *caches) revision(operation string) *atomic.Uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.revisions[operation] == nil {
		c.revisions[operation] = &atomic.Uint64{}
	}
	return c.revisions[operation]
}

// cache gives stored answers, and has concurrent requests for the same thing share one, where the operation declares
// it.
func (g *Gateway) cache(next Handler) Handler {
	return func(x *Exchange) {
		p := x.Route.Policy
		switch reads := x.Request.Method == http.MethodGet && bodyless(x.Request) && x.Request.Header.Get("Range") == "" &&
			x.Request.Header.Get("Upgrade") == ""; {
		case reads && p.Cache != nil && x.Route.public() && len(x.Request.Header["Authorization"]) == 0:
			g.fromCache(x, next)
		case reads && p.Coalesce:
			k := key("shared", x.target(), x.Caller.Subject, strings.Join(x.Request.Header["Authorization"], ","),
				canonical(x.Request.Header))
			g.caches.share(x, k, next)
		default:
			next(x)
			if status := x.Status(); len(x.Route.invalidates) > 0 && status >= 200 && status < 400 {
				for _, revision := range x.Route.invalidates {
					revision.Add(1)
				}
			}
		}
	}
}

func bodyless(r *http.Request) bool { return r.Body == nil || r.Body == http.NoBody }

// target returns what a request asks for: host, path, query and the function that serves it.
func (x *Exchange) target() string {
	side := "-1"
	for i, rule := range x.Route.Policy.Split {
		if matches(x, rule) && share(x, rule.Function, rule.Percent) {
			side = strconv.Itoa(i)
			break
		}
	}
	return side + " " + strings.ToLower(x.Request.Host) + " " + x.Request.URL.RequestURI()
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

// unkeyed are header fields that a function must not build a cached answer from, because they are no part of what the
// answer is stored under.
var unkeyed = []string{
	"X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix", "Forwarded", "X-Original-Url",
	"X-Rewrite-Url", "X-Http-Method-Override", "X-Host", "Cookie",
}

// fromCache answers from the cache, or with what the function answers, which is stored.
func (g *Gateway) fromCache(x *Exchange, next Handler) {
	c, now := g.caches, g.caches.now()
	for _, name := range unkeyed {
		x.Request.Header.Del(name)
	}
	target := key("cache", x.target())
	asked := directivesOf(x.Request.Header)
	old := c.get(x, target)
	switch {
	case old != nil && old.isFresh(now) && !asked.has("no-cache"):
		c.answer(x, old, "hit")
		return
	case asked.has("only-if-cached"):
		x.Refuse(fault.New(fault.Timeout, "the answer is not in the cache"))
		return
	case old != nil && old.age(now) < old.fresh+old.stale && !asked.has("no-cache"):
		c.answer(x, old, "hit; fwd=stale")
		g.refresh(x, target, old, next)
		return
	}
	c.fetch(x, target, old, next)
}

// get returns the stored answer for a request; nil if there is none.
func (c *caches) get(x *Exchange, target string) *stored {
	s, ok := c.answers.GetIfPresent(target)
	if ok && len(s.vary) > 0 {
		s, ok = c.answers.GetIfPresent(variant(target, s.vary, x.Request.Header))
	}
	if !ok || s.revision != x.Route.revision.Load() {
		return nil
	}
	return s
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
func (c *caches) fetch(x *Exchange, target string, old *stored, next Handler) {
	match := x.Request.Header.Get("If-None-Match")
	r := x.Own()
	r.Header = r.Header.Clone()
	for _, name := range []string{"If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range"} {
		r.Header.Del(name)
	}
	if old != nil && old.header.Get("ETag") != "" {
		r.Header.Set("If-None-Match", old.header.Get("ETag"))
	}
	revision := x.Route.revision.Load() // before the function reads
	got := c.capture(x, key("fetch", target, canonical(r.Header)), next)
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
	if s == nil {
		c.answer(x, &stored{status: got.status, header: got.header, body: got.body, at: now}, "fwd=miss")
		return
	}
	s.revision = revision
	at := target
	if len(s.vary) > 0 {
		c.answers.Set(target, &stored{vary: s.vary, revision: revision})
		at = variant(target, s.vary, r.Header)
	}
	c.answers.Set(at, s)
	c.answer(x, s, "fwd=miss; stored")
}

// refresh fetches an answer for the next callers.
func (g *Gateway) refresh(x *Exchange, target string, old *stored, next Handler) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.Request.Context()), fetchTimeout)
	later := &Exchange{
		Request: x.Request.Clone(ctx), own: true, Route: x.Route, table: x.table, address: x.address,
		Writer: discard{header: http.Header{}},
	}
	flight := key("refresh", target)
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
		c.fetch(later, target, old, next)
	}()
}

// share answers a request with what a request for the same thing, which is on its way, is answered.
func (c *caches) share(x *Exchange, k string, next Handler) {
	if got := c.capture(x, k, next); got != nil {
		copyHeader(x.Writer.Header(), got.header)
		x.Writer.WriteHeader(got.status)
		_, _ = x.Writer.Write(got.body)
	}
}

// capture has the function answer and returns the answer; nil when it was sent to the caller already, because it is too
// long or comes in pieces. One request of those with the same key asks, and the others wait for its answer. When that
// cannot be shared, each asks for itself.
func (c *caches) capture(x *Exchange, k string, next Handler) *captured {
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
			return f.answer
		}
		return record(x, next)
	}
	f := &flight{done: make(chan struct{})}
	c.flights[k] = f
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.flights, k)
		c.mu.Unlock()
		close(f.done)
	}()
	// Others wait for this request, so it goes on when its own caller has gone away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.Request.Context()), fetchTimeout)
	defer cancel()
	x.Request, x.own = x.Request.WithContext(ctx), true
	got := record(x, next)
	if got != nil && x.mayShare(got.header) {
		f.answer = got
	}
	return got
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

// record runs the handler and returns its answer; nil when it was sent.
func record(x *Exchange, next Handler) *captured {
	before := x.Writer
	w := &recording{to: before, header: http.Header{}}
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
