package gateway

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ebb-dev/ebb/infra/telemetry"
)

// measure counts requests, with their route, method, status and duration, the bytes of their answers and what the cache
// did for them. Of a stream of events the duration is the time until it begins.
func (g *Gateway) measure(next Handler) Handler {
	return func(x *Exchange) {
		begin, method := time.Now(), x.Request.Method
		next(x)
		took := time.Since(begin)
		if began := x.response.stream; !began.IsZero() {
			took = began.Sub(begin)
		}
		g.cfg.Telemetry.HTTP(x.Request.Context(), telemetry.Request{
			Function: "gateway", Route: x.label(method), Method: method, TLS: x.Request.TLS != nil, Status: x.Status(),
		}, took)
		if x.Route == nil {
			return
		}
		g.cfg.Telemetry.Carried(x.Route.Function, x.Route.Path, "response", x.response.bytes)
		if x.Route.Policy.Cache != nil {
			if did := cacheResult(x.Writer.Header().Get("Cache-Status")); did != "" {
				g.cfg.Telemetry.Cached(x.Route.Function, x.Route.Path, did)
			}
		}
	}
}

// cacheResult returns what a Cache-Status field says that the gateway's cache did: hit, stale or miss; "" if it says
// nothing.
func cacheResult(status string) string {
	did, own := strings.CutPrefix(status, "ebb; ")
	switch {
	case !own:
		return ""
	case did == "hit":
		return "hit"
	case strings.HasPrefix(did, "hit"):
		return "stale"
	}
	return "miss"
}

// countRunning counts the requests that an operation is serving, and the bytes of their bodies.
func (g *Gateway) countRunning(next Handler) Handler {
	if g.cfg.Telemetry == nil {
		return next
	}
	return func(x *Exchange) {
		route := x.Route
		g.cfg.Telemetry.Running(route.Function, route.Path, 1)
		var body *countedBody
		if !bodyless(x.Request) {
			body = &countedBody{ReadCloser: x.Request.Body}
			x.Own().Body = body
		}
		defer func() {
			g.cfg.Telemetry.Running(route.Function, route.Path, -1)
			if body != nil {
				g.cfg.Telemetry.Carried(route.Function, route.Path, "request", body.n.Load())
			}
		}()
		next(x)
	}
}

// countedBody counts the bytes that are read of a body.
type countedBody struct {
	io.ReadCloser
	n atomic.Int64
}

// Read implements io.Reader.
func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

// label returns the route's path as it was declared; "" for a request that no operation is declared for, except
// OPTIONS.
func (x *Exchange) label(method string) string {
	switch {
	case x.Route != nil:
		return x.Route.Path
	case x.path == wholeServer:
		return "*"
	case x.path != nil && method == http.MethodOptions:
		return "OPTIONS"
	}
	return ""
}
