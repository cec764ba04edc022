package gateway

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"
)

// logAccess writes one line for each request: what was asked and by whom, what was answered, and how long that took. It
// names the route and not the path, because ids are in paths. Lines are written at the level Info, and at Error from
// status 500 on. Where only a share of the requests get a line, those at Error all do.
func (g *Gateway) logAccess(next Handler) Handler {
	return func(x *Exchange) {
		begin, method, ctx := time.Now(), x.Request.Method, x.Request.Context()
		defer func() { g.writeLine(ctx, x, begin, method) }()
		next(x)
	}
}

// writeLine writes the line of a request.
func (g *Gateway) writeLine(ctx context.Context, x *Exchange, begin time.Time, method string) {
	status, level := x.Status(), slog.LevelInfo
	if status == 0 {
		status = http.StatusOK // what the server writes for a handler that wrote nothing
	}
	if status >= 500 {
		level = slog.LevelError
	}
	share := g.cfg.AccessLog
	passed := level < slog.LevelError && share < 1 && rand.Float64() >= share
	if share == 0 || passed || !g.cfg.Logger.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 10)
	attrs = append(attrs, slog.String("http.request.method", known(method)),
		slog.String("http.route", x.label(method)),
		slog.Int("http.response.status_code", status), slog.Int64("http.response.body.size", x.response.bytes),
		slog.Float64("duration", time.Since(begin).Seconds()), slog.String("request_id", x.id[0]),
		slog.String("client.address", x.client().String()))
	if x.Route != nil && x.Route.Function != "" {
		attrs = append(attrs, slog.String("function", x.Route.Function))
	}
	if !x.Caller.Anonymous() {
		attrs = append(attrs, slog.String("user.id", x.Caller.Subject))
	}
	if cache := x.Writer.Header().Get("Cache-Status"); cache != "" {
		attrs = append(attrs, slog.String("cache", cache))
	}
	g.cfg.Logger.LogAttrs(ctx, level, "request", attrs...)
}

// known returns a method that HTTP defines; "_OTHER" for another one, as OpenTelemetry names it.
func known(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodOptions, http.MethodTrace, http.MethodConnect:
		return method
	}
	return "_OTHER"
}
