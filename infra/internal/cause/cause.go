// Package cause carries in a context what a unit of work continues that no message has begun: the event or the request
// that led to it. infra/outside sets it, and infra/function stamps the unit's events with it.
package cause

import (
	"context"

	ce "github.com/cloudevents/sdk-go/v2/event"
)

// Cause is what a unit of work continues.
type Cause struct {
	Event   ce.Event // without data; zero: a request
	Message string   // what the unit's keys for remote calls are derived from
}

type key struct{}

// With returns a context with the cause.
func With(ctx context.Context, c Cause) context.Context { return context.WithValue(ctx, key{}, c) }

// Without returns a context that has no cause.
func Without(ctx context.Context) context.Context { return context.WithValue(ctx, key{}, nil) }

// From returns the cause in the context; ok is false when it has none.
func From(ctx context.Context) (c Cause, ok bool) {
	c, ok = ctx.Value(key{}).(Cause)
	return c, ok
}
