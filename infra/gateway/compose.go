package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/policy"
)

// Composition is a GET operation whose answer is an object of the answers of several operations. Its caller needs a
// token.
type Composition struct {
	Path        string
	OperationID string // in the OpenAPI document
	Summary     string
	Policy      policy.Policy
	Parts       []Part // a part whose path no function serves is left out; without any the operation is not served
}

// Part is one member of a composed answer. All parts are asked for at the same time. One that does not come in time, or
// not with 200, is named in "missing".
type Part struct {
	Name string // of the member
	Path string // that is asked for with GET; {subject} is the id of the caller

	Timeout  time.Duration   // for how long the answer waits for the part; 0: a second
	Required bool            // without the part the whole answer is 503
	Fallback json.RawMessage // the member when the part is missing; nil: the member is left out
}

const (
	partTimeout = time.Second
	maxPart     = 1 << 20 // bytes of a part
)

// timeout returns for how long the answer waits for the part.
func (p Part) timeout() time.Duration {
	if p.Timeout == 0 {
		return partTimeout
	}
	return p.Timeout
}

// check returns what is not valid.
func (p Part) check() error {
	switch {
	case p.Name == "" || p.Name == "missing":
		return fmt.Errorf("invalid part %q: want another name", p.Name)
	case p.Timeout < 0:
		return fmt.Errorf("invalid timeout of the part %q: want zero or more", p.Name)
	case p.Fallback != nil && !json.Valid(p.Fallback):
		return fmt.Errorf("invalid fallback of the part %q: want JSON", p.Name)
	case p.Fallback != nil && p.Required:
		return fmt.Errorf("invalid part %q: want a fallback, or required, and not both", p.Name)
	}
	return nil
}

// describe returns the OpenAPI description of the operation.
func (c Composition) describe() map[string]any {
	members := map[string]any{"missing": map[string]any{
		"type": "array", "items": map[string]any{"type": "string"}, "description": "Parts that are not available just now.",
	}}
	for _, p := range c.Parts {
		path := strings.ReplaceAll(p.Path, "{subject}", "{id}")
		members[p.Name] = map[string]any{"type": "object", "description": "As GET " + path + " answers it."}
	}
	return map[string]any{
		"operationId": c.OperationID, "summary": c.Summary, "tags": []string{"gateway"},
		"description": "Composed of several functions at once. A part that does not answer in time is left out, or has a " +
			"fallback, and is named in `missing`. Without any part, or without a required one, the answer is 503.",
		"security": []any{map[string]any{"bearer": []string{}}},
		"responses": map[string]any{
			"200": map[string]any{"description": "OK", "content": map[string]any{"application/json": map[string]any{
				"schema": map[string]any{"type": "object", "required": []string{"missing"}, "properties": members},
			}}},
		},
	}
}

// addComposition adds the operation with those of its parts that a function serves. The functions are added before.
func (g *Gateway) addComposition(t *table, c Composition, env environment) error {
	var parts []source
	for _, p := range c.Parts {
		if err := p.check(); err != nil {
			return fmt.Errorf("%s: %w", c.Path, err)
		}
		if found := t.tree.find(strings.TrimPrefix(p.Path, "/")); found != nil && found.route(http.MethodGet) != nil {
			parts = append(parts, source{p, found.route(http.MethodGet)})
		}
	}
	if len(parts) == 0 {
		return nil
	}
	declared := env.apply(c.route())
	return t.tree.add(g.newRoute("", declared, func(x *Exchange) { g.compose(x, parts) }, env))
}

// route returns the operation as a manifest would have it.
func (c Composition) route() manifest.Route {
	return manifest.Route{
		Method: http.MethodGet, Path: c.Path, Summary: c.Summary, Access: manifest.AccessAuthenticated, Policy: &c.Policy,
	}
}

// source is a part and the operation that answers it.
type source struct {
	Part
	route *Route
}

// compose asks for all parts at the same time and answers with those that came in time. "missing" names the others, so
// that a caller can tell a customer without orders from orders that are down.
func (g *Gateway) compose(x *Exchange, parts []source) {
	ctx, cancel := context.WithCancel(x.Request.Context()) // of all parts, when the answer is known
	defer cancel()
	ends := make([]context.Context, len(parts))
	answers := make([]chan json.RawMessage, len(parts))
	for i, p := range parts {
		answers[i] = make(chan json.RawMessage, 1) // a part that comes too late is not blocked
		end, cancel := context.WithTimeout(ctx, p.timeout())
		defer cancel()
		ends[i] = end
		r := partRequest(end, x.Request, p.pathFor(x.Caller), nil)
		part := x.part(p.route, r)
		go func() { answers[i] <- g.ask(end, p, part) }()
	}
	await := func(i int) (part json.RawMessage) {
		select {
		case part = <-answers[i]:
		case <-ends[i].Done():
		}
		return part
	}
	whole, missing := map[string]any{}, []string{}
	for i, p := range parts {
		if !p.Required {
			continue
		}
		part := await(i)
		if part == nil {
			err := fault.New(fault.Unavailable, "the part %s of this answer is not available just now", p.Name)
			x.Refuse(err.After(time.Second))
			return
		}
		whole[p.Name] = part
	}
	live := len(whole)
	for i, p := range parts {
		if p.Required {
			continue
		}
		if part := await(i); part != nil {
			whole[p.Name], live = part, live+1
			continue
		}
		missing = append(missing, p.Name)
		if p.Fallback != nil {
			whole[p.Name] = p.Fallback
		}
	}
	if live == 0 {
		x.Refuse(fault.New(fault.Unavailable, "none of the parts of this answer is available just now").After(time.Second))
		return
	}
	whole["missing"] = missing
	x.Writer.Header().Set("Content-Type", "application/json")
	x.Writer.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(x.Writer).Encode(whole)
}

// pathFor returns the escaped path.
func (p Part) pathFor(who auth.Principal) string {
	return strings.ReplaceAll(p.Path, "{subject}", url.PathEscape(who.Subject))
}

// partRequest returns the request for a part, with the credentials of the request for the whole. The path is a declared
// one with escaped ids.
func partRequest(ctx context.Context, r *http.Request, path string, query url.Values) *http.Request {
	part := r.Clone(ctx)
	u, err := url.Parse(path)
	if err != nil {
		u = &url.URL{Path: path}
	}
	part.URL.Path, part.URL.RawPath, part.URL.RawQuery = u.Path, u.RawPath, query.Encode()
	part.RequestURI = part.URL.RequestURI()
	part.Body, part.ContentLength = http.NoBody, 0
	for _, name := range []string{
		"If-None-Match", "If-Modified-Since", "Range", "Accept-Encoding", "Content-Type", "Content-Length",
	} {
		part.Header.Del(name)
	}
	return part
}

// refusal returns why the caller of a request may not have the answer of an operation as a part of another answer; nil
// if there is no reason. A policy file may ask for more than the function of the part, which checks its callers again.
func (r *Route) refusal(request *http.Request, who auth.Principal) error {
	if len(r.hosts) > 0 && !isHost(r.hosts, request) {
		return fault.New(fault.NotFound, "the host of the request does not have the operation")
	}
	return r.allow(who)
}

// ask returns a part's JSON; nil when it cannot be had.
func (g *Gateway) ask(ctx context.Context, p source, x *Exchange) (part json.RawMessage) {
	log := g.cfg.Logger
	defer func() {
		if cause := recover(); cause != nil {
			stack := string(debug.Stack())
			log.ErrorContext(x.Request.Context(), "a part panicked", "part", p.Name, "panic", cause, "stack", stack)
			part = nil
		}
	}()
	if err := p.route.refusal(x.Request, x.Caller); err != nil {
		log.WarnContext(x.Request.Context(), "a part of a composed answer is refused", "part", p.Name, "error", err)
		return nil
	}
	w := x.ask(ctx, choose)
	if w.status != http.StatusOK || !json.Valid(w.body.Bytes()) {
		log.WarnContext(x.Request.Context(), "a part of a composed answer is missing", "part", p.Name, "status", w.status)
		return nil
	}
	return w.body.Bytes()
}

// part returns the Exchange of a request for a part of this one's answer.
func (x *Exchange) part(route *Route, r *http.Request) *Exchange {
	return &Exchange{
		Request: r, own: true, Route: route, Caller: x.Caller, table: x.table, address: x.address, version: x.version,
	}
}

// ask sends the request for a part, whose context is ctx, to its function, through the policies and the time and load
// that its operation allows. That the context of the part ends says nothing about its function.
func (x *Exchange) ask(ctx context.Context, policies ...Middleware) *recorder {
	w := &recorder{header: http.Header{}}
	x.response.ResponseWriter, x.Writer = w, &x.response
	chain(func(x *Exchange) {
		dispatch(x)
		x.hurried = x.hurried || ctx.Err() != nil
	}, append(policies, limitTime, shedLoad)...)(x)
	return w
}

// recorder stores an answer instead of sending it.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (w *recorder) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// Write implements io.Writer.
func (w *recorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.body.Len()+len(b) > maxPart {
		return 0, fault.New(fault.TooLarge, "the part is too large")
	}
	return w.body.Write(b)
}
