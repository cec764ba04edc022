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
		if origin := x.Request.Header.Get("Origin"); origin != "" {
			h := x.Writer.Header()
			vary(h, "Origin")
			if g.origins["*"] || g.origins[origin] {
				h.Set("Access-Control-Allow-Origin", origin)
				h.Set("Access-Control-Expose-Headers", corsExposed)
				x.preflight(h)
			}
		}
		next(x)
	}
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
