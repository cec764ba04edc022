package gateway

import (
	"net/http"
	"strings"
	"sync"

	"github.com/jub0bs/cors"
)

// corsConfig says what the scripts of the listed origins may send and read. Scripts of other sites get nothing. Tokens
// travel in a header and never in a cookie, so credentials are never allowed.
// Calls have header fields beside those of requests.
func corsConfig(origins []string, calls bool, methods ...string) cors.Config {
	c := cors.Config{
		Methods:         methods,
		MaxAgeInSeconds: 600,
		RequestHeaders: []string{
			"Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "Prefer", "Traceparent",
			"X-API-Key", "X-Request-Id",
		},
		ResponseHeaders: []string{"ETag", "Location", "Retry-After", "Link", "X-Request-Id"},
	}
	if calls {
		c.RequestHeaders = append(c.RequestHeaders, "Connect-Protocol-Version", "Connect-Timeout-Ms", "Grpc-Timeout",
			"X-Grpc-Web", "X-User-Agent")
		c.ResponseHeaders = append(c.ResponseHeaders, "Grpc-Status", "Grpc-Message", "Grpc-Status-Details-Bin")
	}
	for _, o := range origins {
		c.Origins = append(c.Origins, strings.TrimSuffix(strings.TrimSpace(o), "/"))
	}
	return c
}

// cors tells browsers which answers the scripts of a listed origin may read, and answers what they ask for with OPTIONS
// before they send a request: whether it may have its method and header fields. The methods are those of the path.
func (g *Gateway) cors(next Handler) Handler {
	if len(g.cfg.Origins) == 0 {
		return next
	}
	type kind struct {
		methods string
		calls   bool
	}
	var byMethods sync.Map // the middleware of the paths of a kind
	return func(x *Exchange) {
		if x.path == nil && x.Request.Method == http.MethodOptions {
			next(x)
			return
		}
		k := kind{}
		if x.path != nil {
			k = kind{x.path.allow, x.path.calls()}
		}
		m, ok := byMethods.Load(k)
		if !ok {
			// New has checked the origins, and no path has a method that scripts may not use.
			built, err := cors.NewMiddleware(corsConfig(g.cfg.Origins, k.calls, scriptMethods(k.methods)...))
			if err != nil {
				panic(err)
			}
			m, _ = byMethods.LoadOrStore(k, built)
		}
		handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { next(x) })
		m.(*cors.Middleware).Wrap(handler).ServeHTTP(x.Writer, x.Request)
	}
}

// scriptMethods returns the methods of an Allow field that scripts may use (Fetch standard, "forbidden method").
func scriptMethods(allow string) []string {
	var all []string
	for method := range strings.SplitSeq(allow, ", ") {
		switch method {
		case "", http.MethodConnect, http.MethodTrace:
		default:
			all = append(all, method)
		}
	}
	return all
}
