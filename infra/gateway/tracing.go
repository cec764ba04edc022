package gateway

import (
	"strings"

	"github.com/ebb-dev/ebb/infra/telemetry"
)

// trace records a span for the request, as part of the caller's trace if it has one, and hands it on to the function.
// Without telemetry it only hands on the caller's.
func (g *Gateway) trace(next Handler) Handler {
	return func(x *Exchange) {
		parent := x.Request.Header.Get("Traceparent")
		if parent == "" && g.cfg.Telemetry == nil {
			next(x)
			return
		}
		state := strings.Join(x.Request.Header.Values("Tracestate"), ",")
		ctx := telemetry.WithTrace(x.Request.Context(), parent, state)
		ctx, end := g.cfg.Telemetry.ServerSpan(ctx, x.Route.span, x.Request, false)
		defer func() { end(x.Status(), nil) }()
		x.Request, x.own = x.Request.WithContext(ctx), true
		if traceparent := telemetry.Traceparent(ctx); traceparent != "" {
			x.Request.Header["Traceparent"] = []string{traceparent}
			delete(x.Request.Header, "Tracestate") // of a caller whose traceparent is malformed
			if state := telemetry.Tracestate(ctx); state != "" {
				x.Request.Header["Tracestate"] = []string{state}
			}
		}
		next(x)
	}
}
