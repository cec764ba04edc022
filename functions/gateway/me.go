package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/problem"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Part is one piece of a composed answer.
type Part struct {
	Name string // the field it becomes
	Path string // what is asked for; {subject} is whoever asks
}

// describeMe returns the OpenAPI description of the composed answer.
func (c Config) describeMe() map[string]any {
	refused := map[string]any{"description": "Unauthorized", "content": map[string]any{problem.ContentType: map[string]any{}}}
	none := map[string]any{"description": "No part is available", "content": map[string]any{problem.ContentType: map[string]any{}}}
	members := map[string]any{"missing": map[string]any{
		"type": "array", "items": map[string]any{"type": "string"}, "description": "Parts that are not available just now.",
	}}
	for _, p := range c.Parts {
		path := strings.ReplaceAll(p.Path, "{subject}", "{id}")
		members[p.Name] = map[string]any{"type": "object", "description": "As GET " + path + " answers it."}
	}
	return map[string]any{
		"operationId": "get-me", "summary": "Everything about the caller", "tags": []string{Name},
		"description": "Composed of several functions at once. A part that does not answer within a second is left out, and " +
			"named in `missing`.",
		"security": []any{map[string]any{"bearer": []string{}}},
		"responses": map[string]any{
			"200": map[string]any{"description": "OK", "content": map[string]any{"application/json": map[string]any{
				"schema": map[string]any{"type": "object", "required": []string{"missing"}, "properties": members},
			}}},
			"401": refused, "503": none,
		},
	}
}

// partLimit is how long a part may take before the answer goes without it.
const partLimit = time.Second

// maxPart is the largest part.
const maxPart = 1 << 20

// addMe serves GET /api/me of those parts that some function serves.
func (g *Gateway) addMe(parts []Part) error {
	var c composed
	for _, p := range parts {
		place := g.tree.find(strings.TrimPrefix(p.Path, "/"))
		if place == nil || place.of(http.MethodGet) == nil {
			continue
		}
		c.parts = append(c.parts, source{Part: p, handler: place.of(http.MethodGet).handler})
	}
	if len(c.parts) == 0 {
		return nil
	}
	c.gateway = g
	return g.serveOwn(http.MethodGet, mePath, access{}, c.serve)
}

const mePath = "/api/me"

type composed struct {
	gateway *Gateway
	parts   []source
}

type source struct {
	Part
	handler http.Handler
}

// serve asks for all parts at once and answers with those that came in time. "missing" names the others,
// so that a caller can tell a customer without orders from orders that are down.
func (c composed) serve(w http.ResponseWriter, r *http.Request) {
	who, err := c.gateway.authenticate(r)
	if err != nil {
		problem.Write(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), partLimit)
	defer cancel()
	answers := make([]chan json.RawMessage, len(c.parts))
	for i, p := range c.parts {
		answers[i] = make(chan json.RawMessage, 1) // never blocks one that comes too late
		go func() { answers[i] <- c.gateway.ask(p, request(ctx, r, p.pathFor(who))) }()
	}
	whole, missing := map[string]any{}, []string{}
	for i, p := range c.parts {
		select {
		case part := <-answers[i]:
			if part != nil {
				whole[p.Name] = part
				continue
			}
		case <-ctx.Done():
		}
		missing = append(missing, p.Name)
	}
	if len(whole) == 0 {
		problem.Write(w, r, fault.New(fault.Unavailable, "none of the parts of this answer is available just now").After(time.Second))
		return
	}
	whole["missing"] = missing
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(whole)
}

func (p Part) pathFor(who auth.Principal) string {
	return strings.ReplaceAll(p.Path, "{subject}", who.Subject)
}

// request asks for a part in the name of whoever asked for the whole.
func request(ctx context.Context, r *http.Request, path string) *http.Request {
	part := r.Clone(ctx)
	part.URL.Path, part.URL.RawPath, part.URL.RawQuery = path, "", ""
	part.RequestURI = path
	part.Body, part.ContentLength = http.NoBody, 0
	for _, name := range []string{"If-None-Match", "If-Modified-Since", "Range", "Accept-Encoding", "Content-Type", "Content-Length"} {
		part.Header.Del(name)
	}
	return part
}

// ask is a part's JSON; nil when there is none.
func (g *Gateway) ask(p source, r *http.Request) (part json.RawMessage) {
	defer func() {
		if cause := recover(); cause != nil {
			g.logger.ErrorContext(r.Context(), "a part panicked", "part", p.Name, "panic", cause, "stack", string(debug.Stack()))
			part = nil
		}
	}()
	w := &recorder{header: http.Header{}}
	p.handler.ServeHTTP(w, r)
	if w.status != http.StatusOK || !json.Valid(w.body.Bytes()) {
		g.logger.WarnContext(r.Context(), "a part of a composed answer is missing", "part", p.Name, "status", w.status)
		return nil
	}
	return w.body.Bytes()
}

// recorder keeps an answer instead of sending it.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *recorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.body.Len()+len(b) > maxPart {
		return 0, fault.New(fault.TooLarge, "the part is too large")
	}
	return w.body.Write(b)
}
