package gateway

import (
	"context"
	"time"
)

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
