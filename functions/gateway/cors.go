package gateway

import (
	"net/http"
	"slices"
	"strings"
)

// Other sites' scripts get nothing unless their origin is listed. Tokens travel in a header
// and never in a cookie, so credentials are never allowed.
const (
	corsHeaders = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Prefer, Traceparent, X-Request-Id"
	corsExposed = "ETag, Location, Retry-After, Link, X-Request-Id"
	corsMaxAge  = "600"
)

func (g *Gateway) allowed(origin string) bool { return g.origins["*"] || g.origins[origin] }

// allowOrigin says to a browser that this origin's scripts may read the answer.
func (g *Gateway) allowOrigin(h http.Header, r *http.Request) {
	if len(g.origins) == 0 {
		return
	}
	vary(h, "Origin")
	if origin := r.Header.Get("Origin"); g.allowed(origin) {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", corsExposed)
	}
}

// preflight answers OPTIONS: to anyone what the path allows, and to the browser of a listed origin that it may.
func (g *Gateway) preflight(w http.ResponseWriter, r *http.Request, p *place) {
	h := w.Header()
	h.Set("Allow", p.allow)
	wanted := r.Header.Get("Access-Control-Request-Method")
	if wanted != "" && h.Get("Access-Control-Allow-Origin") != "" && slices.Contains(strings.Split(p.allow, ", "), wanted) {
		h.Set("Access-Control-Allow-Methods", p.allow)
		h.Set("Access-Control-Allow-Headers", corsHeaders)
		h.Set("Access-Control-Max-Age", corsMaxAge)
	}
	w.WriteHeader(http.StatusNoContent)
}
