package gateway

import (
	"context"
	"time"

	"github.com/ebb-dev/ebb/infra/internal/timeoutheader"
)

// ownTimeout takes out the time that a client says its request has left: a stranger could have a function fail by it,
// until its instances are left out and its breaker opens. The proxy sets the gateway's own.
func ownTimeout(next Handler) Handler {
	return func(x *Exchange) {
		delete(x.Request.Header, timeoutheader.Name)
		next(x)
	}
}

// limitTime ends the context of a request when its function has taken as long as the operation allows. The function, or
// the way to it, then answers 504.
func limitTime(next Handler) Handler {
	return func(x *Exchange) {
		limit := time.Duration(x.Route.Policy.Timeout)
		if limit == 0 {
			next(x)
			return
		}
		ctx, cancel := context.WithTimeout(x.Request.Context(), limit)
		defer cancel()
		x.Request, x.own = x.Request.WithContext(ctx), true
		next(x)
	}
}
