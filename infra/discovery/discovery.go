// Package discovery is the port from a function's name to its instances.
//
// The gateway is its only user: functions never call one another. What is found is an
// http.Handler, so that in one process a request is handed over without being copied,
// and elsewhere the handler is a proxy to an address.
package discovery

import (
	"context"
	"net/http"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Discovery finds functions. It may be used concurrently, and what it found may be kept:
// the handler itself looks for a live instance at each request, starts one if need be, and
// answers 503 with a problem document when there is none.
type Discovery interface {
	// Endpoint is how to reach a function. A name nobody knows is fault.NotFound.
	Endpoint(name string) (http.Handler, error)

	// Ready says whether requests can be expected to arrive. It starts no function.
	Ready(ctx context.Context) error
}

// Waker is a Discovery of functions whose instances take a while to start.
type Waker interface {
	// Wake has an instance of each function started, if none runs, and returns at once. Nothing depends on it.
	Wake(names ...string)
}

// Static knows its functions from the beginning: in tests, by hand, or beside in one process.
type Static map[string]http.Handler

var _ Discovery = Static(nil)

// Endpoint implements Discovery.
func (s Static) Endpoint(name string) (http.Handler, error) {
	if h := s[name]; h != nil {
		return h, nil
	}
	return nil, unknown(name)
}

// Ready implements Discovery.
func (s Static) Ready(context.Context) error { return nil }

func unknown(name string) error {
	return fault.New(fault.NotFound, "there is no function called %q", name)
}
