// Package balance chooses which of a function's instances serves a request.
//
// A Pool follows the instances of one function: it leaves out those that fail, prefers those of its own zone, and has a
// Balancer choose among the rest. The balancers are RoundRobin, WeightedRoundRobin, LeastConnections, IPHash and
// TwoChoices.
package balance

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Balancer chooses members of one pool. It may be used concurrently.
type Balancer interface {
	// Choose returns the index of the member that the request is sent to. There is at least one member. It must not
	// change the slice or the request.
	Choose(r *http.Request, members []*Member) int
}

// balancers makes the balancers by name.
var balancers = map[string]func() Balancer{
	"round-robin":          func() Balancer { return &RoundRobin{} },
	"weighted-round-robin": func() Balancer { return &WeightedRoundRobin{} },
	"least-connections":    func() Balancer { return &LeastConnections{} },
	"ip-hash":              func() Balancer { return &IPHash{} },
	"two-choices":          func() Balancer { return &TwoChoices{} },
}

// Names returns the names that ByName knows, sorted.
func Names() []string {
	names := make([]string, 0, len(balancers))
	for name := range balancers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// ByName returns a new Balancer: round-robin, weighted-round-robin, least-connections, ip-hash or two-choices. A pool
// needs one of its own.
func ByName(name string) (Balancer, error) {
	if b := balancers[name]; b != nil {
		return b(), nil
	}
	return nil, fmt.Errorf("unknown balancer %q (use %s)", name, strings.Join(Names(), ", "))
}

// RoundRobin is a Balancer that gives each member its turn, in the order of the list, whatever its weight is. The zero
// RoundRobin begins with the first member.
type RoundRobin struct{ next atomic.Uint64 }

var _ Balancer = (*RoundRobin)(nil)

// Choose implements Balancer.
func (b *RoundRobin) Choose(_ *http.Request, members []*Member) int {
	if len(members) == 1 {
		return 0
	}
	return int((b.next.Add(1) - 1) % uint64(len(members)))
}

// WeightedRoundRobin is a Balancer that gives each member a share of the turns by its weight, and spreads the turns of
// a heavy member evenly among those of the others: weights of 5, 1 and 1 give a a b a c a a. The zero
// WeightedRoundRobin is ready to use.
type WeightedRoundRobin struct{ mu sync.Mutex }

var _ Balancer = (*WeightedRoundRobin)(nil)

// Choose implements Balancer.
func (b *WeightedRoundRobin) Choose(_ *http.Request, members []*Member) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	best, total := 0, 0.0
	for i, m := range members {
		w := m.Weight()
		total += w
		if m.credit += w; m.credit > members[best].credit {
			best = i
		}
	}
	members[best].credit -= total
	return best
}

// LeastConnections is a Balancer that chooses the member with the fewest requests under way, in proportion to its
// weight. Members with equally many get their turns. The zero LeastConnections is ready to use.
type LeastConnections struct{ next atomic.Uint64 }

var _ Balancer = (*LeastConnections)(nil)

// Choose implements Balancer.
func (b *LeastConnections) Choose(_ *http.Request, members []*Member) int {
	if len(members) == 1 {
		return 0
	}
	begin := int((b.next.Add(1) - 1) % uint64(len(members)))
	best, least := begin, members[begin].load()
	for n := 1; n < len(members); n++ {
		i := (begin + n) % len(members)
		if load := members[i].load(); load < least {
			best, least = i, load
		}
	}
	return best
}

// TwoChoices is a Balancer that draws two members and chooses the one with fewer requests under way, in proportion to
// its weight. It looks at two members only, however many there are, and several gateways that see the same idle member
// do not all choose it. The zero TwoChoices is ready to use.
type TwoChoices struct {
	Random func(n int) int // draws from 0 to n-1, concurrently; nil: rand.IntN
}

var _ Balancer = (*TwoChoices)(nil)

// Choose implements Balancer.
func (b *TwoChoices) Choose(_ *http.Request, members []*Member) int {
	if len(members) == 1 {
		return 0
	}
	draw := b.Random
	if draw == nil {
		draw = rand.IntN
	}
	i, j := draw(len(members)), draw(len(members)-1)
	if j >= i {
		j++
	}
	if members[j].load() < members[i].load() {
		return j
	}
	return i
}
