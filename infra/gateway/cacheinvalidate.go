package gateway

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

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

// change runs an operation that invalidates stored answers, before its caller gets to know that it was carried out: who
// knows of the change does not get an answer of before. A failure (5xx, a panic) may have come after the change.
func (c *caches) change(x *Exchange, next Handler) {
	w := &changing{ResponseWriter: x.Writer}
	w.invalidate = func() {
		w.invalidate = nil
		c.invalidate(x.Request.Context(), x.Route.invalidates)
	}
	before := x.Writer
	x.Writer = w
	defer func() {
		x.Writer = before
		if w.invalidate != nil && !w.refused {
			w.invalidate()
		}
	}()
	next(x)
}

// invalidate removes the answers with the tags. Where the store cannot do that, the answers end with their time.
func (c *caches) invalidate(ctx context.Context, tags []string) {
	if err := c.store.Invalidate(context.WithoutCancel(ctx), tags...); err != nil {
		c.log.WarnContext(ctx, "stored answers could not be invalidated: they are given until they expire", "error", err)
	}
}

// changing is a writer that calls invalidate before the answer, unless that is a refusal (4xx).
type changing struct {
	http.ResponseWriter
	invalidate func() // nil: it was called
	refused    bool
}

// WriteHeader implements http.ResponseWriter.
func (w *changing) WriteHeader(status int) {
	switch {
	case status < 200:
	case status >= 400 && status < 500:
		w.refused = true
	case w.invalidate != nil:
		w.invalidate()
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (w *changing) Write(b []byte) (int, error) {
	if w.invalidate != nil && !w.refused {
		w.invalidate()
	}
	return w.ResponseWriter.Write(b)
}

// Flush implements http.Flusher.
func (w *changing) Flush() {
	if w.invalidate != nil && !w.refused {
		w.invalidate()
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController reach the writer below.
func (w *changing) Unwrap() http.ResponseWriter { return w.ResponseWriter }
