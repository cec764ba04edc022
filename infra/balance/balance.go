// Package balance chooses which of a function's instances serves a request.
package balance

import (
	"net/http"
	"sync/atomic"

	"github.com/ebb-dev/ebb/infra/discovery"
)

// Balancer chooses instances of one function. It may be used concurrently.
type Balancer interface {
	// Choose returns the index of the instance that the request is sent to. There is at least one instance. It must not
	// change instances or the request.
	Choose(r *http.Request, instances []discovery.Instance) int
}

// RoundRobin is a Balancer that gives each instance its turn, in the order of the list. The zero RoundRobin begins with
// the first instance.
type RoundRobin struct{ next atomic.Uint64 }

var _ Balancer = (*RoundRobin)(nil)

// Choose implements Balancer.
func (b *RoundRobin) Choose(_ *http.Request, instances []discovery.Instance) int {
	if len(instances) == 1 {
		return 0
	}
	return int((b.next.Add(1) - 1) % uint64(len(instances)))
}
