package gateway

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/ebb-dev/ebb/infra/fault"
)

// wholeServer is the path of "OPTIONS *", which asks for nothing in particular (RFC 9110, 9.3.7).
var wholeServer = &pathItem{}

// match finds the route of the request. It answers nothing: see answerUnmatched. HEAD is served by the route of GET,
// unless one is declared for it; the server leaves out the body.
func match(next Handler) Handler {
	return func(x *Exchange) {
		path, method := x.Request.URL.Path, x.Request.Method
		if x.Request.URL.RawPath != "" {
			path = unescaped(x.Request.URL.RawPath)
		}
		switch {
		case path == "/":
			x.path = &x.table.root
		case path == "*" && method == http.MethodOptions:
			x.path = wholeServer
		default:
			x.path = x.table.tree.find(strings.TrimPrefix(path, "/"))
		}
		if x.path != nil {
			x.Route = x.path.route(method)
		}
		if x.Route != nil && len(x.Route.hosts) > 0 && !isHost(x.Route.hosts, x.Request) {
			x.Route, x.path = nil, nil // to other hosts the path does not exist
		}
		if x.Route != nil && x.Route.Method != method {
			x.Own().Method = x.Route.Method
		}
		next(x)
	}
}

// unescaped returns a path with each segment decoded, as a function's mux compares it. A segment with an escaped slash
// stays encoded: the slash separates no segments, and no route has such a segment.
func unescaped(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if decoded, err := url.PathUnescape(s); err == nil && !strings.Contains(decoded, "/") {
			segments[i] = decoded
		}
	}
	return strings.Join(segments, "/")
}

// answerUnmatched answers the requests that have no route: 404 for an unknown path, 405 for another method of a known
// one, and OPTIONS with the methods that the path has.
func answerUnmatched(next Handler) Handler {
	return func(x *Exchange) {
		switch {
		case x.Route != nil:
			next(x)
			return
		case x.path == nil:
			x.Refuse(fault.New(fault.NotFound, "nothing is served at this path"))
			return
		case x.path != wholeServer:
			x.Writer.Header().Set("Allow", x.path.allow)
		}
		if x.Request.Method == http.MethodOptions {
			x.Writer.WriteHeader(http.StatusNoContent)
			return
		}
		x.Refuse(fault.New(fault.Invalid, "this path answers %s", x.path.allow).WithStatus(http.StatusMethodNotAllowed))
	}
}
