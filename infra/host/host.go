// Package host is the interface between a function and the hosts that run it: one process for all functions (local), a
// Knative Service for each (knative).
package host

import (
	"context"
	"net/http"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// Instance is a function as a host runs it. A host calls Start before anything else but Declaration, and Stop when
// nothing runs any more; in between, all methods may be called concurrently. An instance may be stopped at any moment:
// what it holds in memory is never needed again.
type Instance interface {
	// ServeHTTP serves the declared operations. It authenticates every request itself.
	http.Handler

	// Declaration returns what the function declares. It needs no Start.
	Declaration() *manifest.Declaration

	// Start opens the database and publishes what an earlier instance left in the outbox. Calling it again does nothing.
	// When it fails, the function is as it was before.
	Start(ctx context.Context) error

	// Receive handles a batch of events and answers each, as broker.Handler says.
	Receive(ctx context.Context, batch []ce.Event) []broker.Result

	// Tick tells the function the time, and reports whether it wants to be called again at once.
	Tick(ctx context.Context, now time.Time) (more bool, err error)

	// Stop writes down what was published and closes the database.
	Stop(ctx context.Context) error
}
