// Package cause is what infra/function and infra/outside share: how a unit of work goes on that an event or a request
// has begun.
package cause

import (
	"context"

	ce "github.com/cloudevents/sdk-go/v2/event"
)

// Cause is what a unit of work continues.
type Cause struct {
	Event       ce.Event // without data; zero: a request
	Message     string   // what the unit's keys for remote calls are derived from
	Correlation string   // "": that of the message
}

// Rest is what is left of a follow-up when its outside part is done: to commit the result. Tx is *function.Tx. Several
// of a batch commit together.
type Rest[Tx any] struct {
	Cause

	// Commit commits the result. It may run several times. Nil: nothing is left.
	Commit func(ctx context.Context, tx Tx) error

	// Failed is called when Commit has failed, or the unit that it was a part of. Its error is the follow-up's.
	Failed func(ctx context.Context, err error) error

	// End is called at the end in any case. Nil: nothing is to be done.
	End func()
}
