// Package static is discovery from a list that does not change while the process runs: in tests, and for functions in
// the same process.
package static

import (
	"context"
	"net/http"

	"github.com/ebb-dev/ebb/infra/discovery"
)

// Discovery lists the instances of each function by its name. It must not be changed once it is in use.
type Discovery map[string][]discovery.Instance

var _ discovery.Discovery = Discovery(nil)

// Handler returns the instances of a function that one handler of this process serves.
func Handler(h http.Handler) []discovery.Instance {
	return []discovery.Instance{{ID: "local", Handler: h}}
}

// Instances implements discovery.Discovery.
func (d Discovery) Instances(_ context.Context, name string) ([]discovery.Instance, error) {
	instances, ok := d[name]
	if !ok {
		return nil, discovery.Unknown(name)
	}
	return instances, nil
}

// Ready implements discovery.Discovery. It always returns nil.
func (d Discovery) Ready(context.Context) error { return nil }
