package gateway

import (
	"net/http"
	"slices"
	"strings"
)

// Scripts of other sites get nothing unless their origin is listed. Tokens travel in a header and never in a cookie, so
// credentials are never allowed.
const (
	corsHeaders = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Prefer, Traceparent, " +
		"X-Request-Id"
	corsExposed = "ETag, Location, Retry-After, Link, X-Request-Id"
	corsMaxAge  = "600"
)

// cors tells browsers which answers the scripts of a listed origin may read, and which methods they may use.
func (g *Gateway) cors(next Handler) Handler {
	if len(g.origins) == 0 {
		return next
	}
	return func(x *Exchange) {
		h := x.Writer.Header()
		if g.allowOrigin(h, x.Request.Header.Get("Origin"), corsExposed) {
			x.preflight(h)
		}
		next(x)
	}
}

// allowOrigin lets the scripts of a listed origin read the answer with these header fields of it, and reports whether
// the origin is listed.
func (g *Gateway) allowOrigin(h http.Header, origin, exposed string) bool {
	if origin == "" || len(g.origins) == 0 {
		return false
	}
	vary(h, "Origin")
	if !g.origins["*"] && !g.origins[origin] {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", exposed)
	return true
}

// preflight adds what a browser asks for with OPTIONS before it sends the request itself.
func (x *Exchange) preflight(h http.Header) {
	if x.Route != nil || x.path == nil || x.Request.Method != http.MethodOptions {
		return
	}
	wanted := x.Request.Header.Get("Access-Control-Request-Method")
	if wanted == "" || !slices.Contains(strings.Split(x.path.allow, ", "), wanted) {
		return
	}
	h.Set("Access-Control-Allow-Methods", x.path.allow)
	h.Set("Access-Control-Allow-Headers", corsHeaders)
	h.Set("Access-Control-Max-Age", corsMaxAge)
}
