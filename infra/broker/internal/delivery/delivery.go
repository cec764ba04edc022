// Package delivery hands the events of triggers to their handlers by the rules of Knative's delivery specification:
// order per partition key, batches, a bound on concurrent calls, retries with backoff, Retry-After, timeouts, replies
// and dead letters. It does not know where the events come from; a Source does.
//
// Registry holds the triggers that a broker serves and their subscriptions. For each trigger that is being served the
// source makes an Engine, adds events to it and is told which of them have finished. Package eventlog is the source
// that reads a log and keeps a cursor, package eventqueue the one that receives from a queue and acknowledges.
//
// An Engine keeps everything in memory. After a crash the source brings the events again that had not finished, with
// their attempts; see tries.go.
package delivery

import (
	"context"
	"log/slog"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
)

// Source brings the events of triggers. Its methods are called concurrently, but Serve only once at a time per trigger.
type Source interface {
	// Register makes the trigger durable under its name, or does nothing when it is durable already. A new trigger gets
	// every event that is published after Register has returned. It is called for each subscription.
	Register(ctx context.Context, trigger string) error

	// Serve brings events to the trigger until ctx ends, and returns when none of its handlers runs and what has finished
	// is recorded. Register has succeeded before. When Serve returns while ctx goes on, it is called again: at once after
	// nil, a second later after an error, which is logged.
	Serve(ctx context.Context, t *Trigger) error
}

// Options configure a Registry.
type Options struct {
	Observer broker.Observer // nil: none
	Logger   *slog.Logger    // must be set

	// Publish publishes the replies of handlers. It returns when they are as durable as the broker makes anything: the
	// event that was answered is finished after that, and nothing would publish its reply again.
	Publish func(ctx context.Context, replies ...event.Event) error
}
