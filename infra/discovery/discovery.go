// Package discovery is the port from the name of a function to its instances.
//
// Discovery only lists instances: package balance chooses one of them for a request, and package proxy carries the
// request to it. The gateway is the only user, because functions never call one another.
package discovery

import (
	"context"
	"net/http"
	"net/url"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Instance is one place that serves a function. Exactly one of Address and Handler is set.
type Instance struct {
	ID      string       // unique among the instances of the function, and the same as long as the instance lives
	Address *url.URL     // the base URL that the paths of requests are added to
	Handler http.Handler // serves requests in this process

	Weight int    // its share of the requests in relation to the others'; 0: 1
	Zone   string // where it runs, such as eu-west-1a; "": unknown
}

// Discovery lists the instances of functions. Its methods may be called concurrently.
type Discovery interface {
	// Instances returns the instances that can be sent a request now, those that the first request starts included. It
	// is called for every request, so a driver answers from memory, with the same slice in the same order until
	// something changes. The slice and its addresses are shared and must not be changed, not even by the driver.
	//
	// A function that has no instance now has an empty list and no error. A name that no function can have, or that the
	// driver knows to be missing for good, is fault.NotFound. While the source of the instances cannot be asked, the
	// driver returns what it heard last; it returns fault.Unavailable when it has heard nothing yet.
	Instances(ctx context.Context, name string) ([]Instance, error)

	// Ready returns nil when requests can be expected to reach their functions, and otherwise why not. It starts no
	// function.
	Ready(ctx context.Context) error
}

// Prewarmer is a Discovery of functions whose instances take a while to start.
type Prewarmer interface {
	// Prewarm starts an instance of each function that has none and returns at once. It reports no failure, because the
	// request that needs the function starts it too.
	Prewarm(names ...string)
}

// Unknown returns the error for a name that no function has.
func Unknown(name string) error {
	return fault.New(fault.NotFound, "there is no function called %q", name)
}
