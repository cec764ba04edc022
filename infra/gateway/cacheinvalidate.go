package gateway

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/manifest"
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
// then until the function is done with it by its deadline.
func (c *caches) change(x *Exchange, next Handler) {
	ctx, tags := x.Request.Context(), x.Route.invalidates
	w := &changing{
		ResponseWriter: x.Writer, x: x,
		invalidate: func() { c.invalidate(ctx, tags, 0) },
		suspend:    func() { c.invalidate(ctx, tags, x.Route.lateness()) },
	}
	before := x.Writer
	x.Writer = w
	done := false // unless next returns, it has panicked
	defer func() {
		x.Writer = before
		if !done || w.end == unanswered || x.sent > 1 && w.end != failed {
			w.suspend()
		}
	}()
	next(x)
	if done = true; w.end == unanswered && ctx.Err() == nil {
		w.answer(http.StatusOK) // which the server writes
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

// changing is a writer that calls invalidate before an answer, unless that is a refusal (4xx), and suspend before a
// failure (5xx).
type changing struct {
	http.ResponseWriter
	x                   *Exchange
	invalidate, suspend func()
	end                 outcome
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
	case status >= 400:
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
	return w.ResponseWriter.Write(b)
}

// Flush implements http.Flusher.
func (w *changing) Flush() {
	w.answer(http.StatusOK)
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController reach the writer below.
func (w *changing) Unwrap() http.ResponseWriter { return w.ResponseWriter }
