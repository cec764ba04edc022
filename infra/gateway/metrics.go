package gateway

import (
	"net/http"
	"time"
)

// measure counts requests, with their route, method, status and duration.
func (g *Gateway) measure(next Handler) Handler {
	return func(x *Exchange) {
		begin, method := time.Now(), x.Request.Method
		next(x)
		status := x.Status()
		if status == 0 {
			status = http.StatusOK // what the server writes for a handler that wrote nothing
		}
		g.cfg.Telemetry.HTTP("gateway", x.label(method), method, status, time.Since(begin))
	}
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
