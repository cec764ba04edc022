package gateway

import (
	"cmp"
	"context"
	"encoding/binary"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/committedheader"
	"github.com/ebb-dev/ebb/infra/internal/timeoutheader"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/policy"
	"github.com/ebb-dev/ebb/infra/rpc/transcode"
)

// tagOf returns the tag of all answers of an operation.
func tagOf(operation string) string { return key("operation", operation) }

// subjectTag returns the tag of the answers of an operation whose path has a value for a parameter.
func subjectTag(operation, parameter, value string) string {
	return key("subject", operation, parameter, value)
}

// tags returns the tags of the answer to a request: that of the operation, and those of the parameters that are the
// subjects of events.
func (r *Route) tags(request *http.Request) []string {
	all := []string{r.tag}
	if r.Policy.Cache == nil {
		return all
	}
	for _, e := range r.Policy.Cache.InvalidatedByEvents {
		if e.Subject != "" {
			all = append(all, subjectTag(name(r.Route), e.Subject, parameter(r.Route, e.Subject, request.URL)))
		}
	}
	return all
}

// parameter returns the value of a parameter of the path; "" if the path has none of that name.
func parameter(r manifest.Route, name string, u *url.URL) string {
	segments := strings.Split(u.EscapedPath(), "/")
	for i, s := range strings.Split(r.Path, "/") {
		if s == "{"+name+"}" && i < len(segments) {
			value, _ := url.PathUnescape(segments[i])
			return value
		}
	}
	return ""
}

// invalidation is what an event does to the stored answers of an operation: to those whose path has the subject of the
// event as the value of a parameter, or to all of them, also where the event has no subject.
type invalidation struct {
	operation string
	parameter string // "": all
}

// Receive takes events of the types in Config.Events, and removes the stored answers that they invalidate. It returns a
// result for each event, in their order. An event may come twice, late or in any order: that only has answers fetched
// anew. All fail when the store does not carry it out; an event that never comes leaves its answers until they expire.
func (g *Gateway) Receive(ctx context.Context, events []ce.Event) []broker.Result {
	var tags []string
	t := g.table.Load()
	for _, e := range events {
		for _, in := range t.events[e.Type()] {
			if in.parameter == "" || e.Subject() == "" {
				tags = append(tags, tagOf(in.operation))
			} else {
				tags = append(tags, subjectTag(in.operation, in.parameter, e.Subject()))
			}
		}
	}
	slices.Sort(tags)
	err := g.caches.store.Invalidate(ctx, slices.Compact(tags)...)
	if err != nil {
		err = fault.Wrap(err, fault.Unavailable, "stored answers cannot be invalidated")
	}
	return slices.Repeat([]broker.Result{broker.ResultOf(err)}, len(events))
}

// commitTime is how long a commit may take that a function has begun before its deadline.
const commitTime = 5 * time.Second

// lateness returns for how long a function may still carry out a request that the gateway has given up.
func (r *Route) lateness() time.Duration {
	deadline := cmp.Or(time.Duration(r.Deadline), manifest.DefaultDeadline)
	if t := time.Duration(r.Policy.Timeout); t > 0 {
		deadline = min(deadline, t) // which the function is told
	}
	return deadline + commitTime
}

// change runs an operation that invalidates stored answers, before its caller gets to know that it was carried out: who
// knows of the change does not get an answer of before.
//
// A failure (5xx, a panic) may have come after the change, and before it: the gateway may have given up a request that
// its function still carries out. So may a try whose answer is not the one that the caller gets. No answers are stored
// then until the function is done with it by its deadline. A caller who goes away does not end the request, so that its
// outcome is known, and one whose requests end in doubt again and again is refused for a while.
func (g *Gateway) change(x *Exchange, next Handler) {
	c, ctx, tags, lateness := g.caches, x.Request.Context(), x.Route.invalidates, x.Route.lateness()
	caller := counted(x, policy.ByUser, g.limits.keys.has)
	if wait := c.doubts(ctx, caller); wait > 0 {
		g.cfg.Telemetry.Shed(x.Route.Function, x.Route.Path, "doubt")
		x.Refuse(fault.New(fault.Exhausted, "too many changes of this caller have ended without an answer").After(wait))
		return
	}
	if !streams(x.Request.Header) {
		var end func()
		x.asked = x.Request
		ctx, end = outlive(ctx, lateness)
		defer end()
		x.Request, x.own = x.Request.WithContext(ctx), true
		if at, limited := transcode.Deadline(ctx); limited {
			timeoutheader.Set(x.Request.Header, time.Until(at)) // the function ends then, and tells what became of it
		}
	}
	w := &changing{
		ResponseWriter: x.Writer, x: x,
		invalidate: func() { c.invalidate(ctx, tags, 0) },
		suspend: sync.OnceFunc(func() {
			c.invalidate(ctx, tags, lateness)
			c.doubt(ctx, caller, lateness)
		}),
	}
	before := x.Writer
	x.Writer = w
	done := false // unless next returns, it has panicked
	defer func() {
		x.Writer = before
		doubt := !done || w.end == unanswered || x.sent > 1 && w.end != failed
		if doubt || x.failed || x.hurried { // a call by gRPC has failed although its status is 200
			w.suspend()
		}
	}()
	next(x)
	if done = true; w.end == unanswered && ctx.Err() == nil {
		w.answer(http.StatusOK) // which the server writes
	}
}

// outlive returns a context that goes on for a time when ctx is canceled, and what frees it. It has the deadline of
// ctx.
func outlive(ctx context.Context, d time.Duration) (context.Context, func()) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	free := context.CancelFunc(func() {})
	if deadline, ok := ctx.Deadline(); ok {
		longer, free = context.WithDeadline(longer, deadline)
	}
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-longer.Done():
		}
	})
	return longer, func() { stop(); free(); cancel() }
}

// The changes of one caller may suspend stored answers for a part of the time, one in doubtShare, and for doubtBurst at
// once.
const (
	doubtShare = 4
	doubtBurst = 2 * time.Minute
)

// doubts returns for how long a caller may change nothing, because too many of its changes have ended in doubt.
func (c *caches) doubts(ctx context.Context, caller string) time.Duration {
	return max(c.debt(ctx, caller)-doubtShare*doubtBurst, 0)
}

// debt returns for how long a caller must make no further change that ends in doubt until its earlier ones do not count
// any more. It is 0 when the store cannot be reached, which then stores no answers either.
func (c *caches) debt(ctx context.Context, caller string) time.Duration {
	b, _, err := c.store.Get(ctx, key("doubt", caller))
	until, size := binary.Varint(b)
	if err != nil || size <= 0 {
		return 0
	}
	return max(time.Unix(0, until).Sub(c.now()), 0)
}

// doubt notes that a change of a caller has suspended answers. Processes that share the store count together; of two
// that note one at the same time, one may be lost.
func (c *caches) doubt(ctx context.Context, caller string, suspended time.Duration) {
	ctx = context.WithoutCancel(ctx)
	debt := min(c.debt(ctx, caller), doubtShare*doubtBurst) + doubtShare*suspended
	until := binary.AppendVarint(nil, c.now().Add(debt).UnixNano())
	if err := c.store.Set(ctx, key("doubt", caller), until, debt, ""); err != nil {
		c.log.DebugContext(ctx, "the cache cannot be written", "error", err)
	}
}

// invalidate removes the answers with the tags, and has none stored for a time. Where the store cannot do that, the
// answers end with their time.
func (c *caches) invalidate(ctx context.Context, tags []string, d time.Duration) {
	ctx = context.WithoutCancel(ctx)
	err := error(nil)
	if d > 0 {
		err = c.store.Suspend(ctx, d, tags...)
	} else {
		err = c.store.Invalidate(ctx, tags...)
	}
	if err != nil {
		c.log.WarnContext(ctx, "stored answers could not be invalidated: they are given until they expire", "error", err)
	}
}

// changing is a writer that calls invalidate before an answer, unless that is a refusal (4xx) that has changed nothing,
// and suspend before a failure (5xx). It takes the whole answer, also when its caller does not.
type changing struct {
	http.ResponseWriter
	x                   *Exchange
	invalidate, suspend func()
	end                 outcome
	gone                bool // the caller does not take the answer
}

// outcome is what the status of an answer says about a change.
type outcome int

const (
	unanswered outcome = iota
	carriedOut
	refused
	failed
)

// answer notes the status of the answer.
func (w *changing) answer(status int) {
	switch {
	case w.end != unanswered || status < 200:
	case status >= 500 && !w.x.shed:
		w.end = failed
		w.suspend()
	case (status >= 400 || w.x.Route.isRefused(w.Header())) && !committedheader.Has(w.Header()):
		w.end = refused
	default:
		w.end = carriedOut
		w.invalidate()
	}
}

// WriteHeader implements http.ResponseWriter.
func (w *changing) WriteHeader(status int) {
	w.answer(status)
	w.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (w *changing) Write(b []byte) (int, error) {
	w.answer(http.StatusOK)
	if !w.gone {
		_, err := w.ResponseWriter.Write(b)
		w.gone = err != nil // an answer that is broken off for that would be one in doubt
	}
	return len(b), nil
}

// Flush implements http.Flusher.
func (w *changing) Flush() {
	w.answer(http.StatusOK)
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController reach the writer below.
func (w *changing) Unwrap() http.ResponseWriter { return w.ResponseWriter }
