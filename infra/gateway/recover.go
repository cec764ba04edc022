package gateway

import (
	"net/http"
	"runtime/debug"

	"github.com/ebb-dev/ebb/infra/fault"
)

// recoverPanics logs a panic and answers 500. If part of the answer was sent, it breaks off the connection, so that the
// client does not take that part for the whole. http.ErrAbortHandler goes on to the server.
func (g *Gateway) recoverPanics(next Handler) Handler {
	return func(x *Exchange) {
		writer := x.Writer
		defer func() {
			if cause := recover(); cause != nil {
				x.Writer = writer // those that policies have set may hold back what is written
				g.panicked(x, cause)
			}
		}()
		next(x)
	}
}

func (g *Gateway) panicked(x *Exchange, cause any) {
	if cause == http.ErrAbortHandler {
		panic(cause)
	}
	path := ""
	if x.Route != nil {
		path = x.Route.Path
	}
	ctx, stack := x.Request.Context(), string(debug.Stack())
	g.cfg.Logger.ErrorContext(ctx, "a handler panicked", "route", path, "panic", cause, "stack", stack)
	if x.Status() != 0 {
		panic(http.ErrAbortHandler)
	}
	x.Refuse(fault.New(fault.Internal, "panic"))
}
