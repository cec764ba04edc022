package balance_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ebb-dev/ebb/infra/balance"
	"github.com/ebb-dev/ebb/infra/discovery"
)

// list returns one instance for each id, with a weight where the id has one: a:5.
func list(ids ...string) []discovery.Instance {
	all := make([]discovery.Instance, len(ids))
	for i, id := range ids {
		name, weight, _ := strings.Cut(id, ":")
		all[i] = discovery.Instance{ID: name, Handler: http.NotFoundHandler()}
		if weight != "" {
			if _, err := fmt.Sscan(weight, &all[i].Weight); err != nil {
				panic(err)
			}
		}
	}
	return all
}

func newPool(cfg balance.Config) *balance.Pool {
	return balance.NewPool(cfg, func(i discovery.Instance) http.Handler { return i.Handler })
}

// order returns the instances that n requests are sent to, each after the one before has ended.
func order(p *balance.Pool, instances []discovery.Instance, n int) string {
	var got []string
	for range n {
		m := p.Pick(nil, instances)
		got = append(got, m.Instance.ID)
		m.Done(false)
	}
	return strings.Join(got, " ")
}

// Round robin takes the instances in order, and goes on when there are more or fewer.
func TestRoundRobin(t *testing.T) {
	all := list("a", "b", "c")
	p := newPool(balance.Config{})
	var got []string
	for _, n := range []int{3, 3, 3, 3, 2, 2, 1, 1, 2} {
		got = append(got, order(p, all[:n], 1))
	}
	if want := []string{"a", "b", "c", "a", "a", "b", "a", "a", "a"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Callers at the same time share the instances equally.
func TestRoundRobinConcurrently(t *testing.T) {
	all := list("a", "b", "c", "d")
	p := newPool(balance.Config{})
	var mu sync.Mutex
	got := map[string]int{}
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 100 {
				m := p.Pick(nil, all)
				mu.Lock()
				got[m.Instance.ID]++
				mu.Unlock()
				m.Done(false)
			}
		})
	}
	callers.Wait()
	for _, i := range all {
		if got[i.ID] != 200 {
			t.Errorf("instance %s was chosen %d times, want 200: %v", i.ID, got[i.ID], got)
		}
	}
}

// The turns of a heavy instance are spread, and equal weights are round robin.
func TestWeightedRoundRobin(t *testing.T) {
	for want, instances := range map[string][]discovery.Instance{
		"a a b a c a a a a b a c a a": list("a:5", "b", "c"),
		"a b c a b c a b c a b c a b": list("a", "b", "c"),
		"b a b b a b b a b b a b b a": list("a", "b:2"),
	} {
		if got := order(newPool(balance.Config{Balancer: &balance.WeightedRoundRobin{}}), instances, 14); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// The instance with the fewest requests under way is next, in proportion to its weight, and idle ones take turns.
func TestLeastConnections(t *testing.T) {
	p, all := newPool(balance.Config{Balancer: &balance.LeastConnections{}}), list("a", "b", "c:2")
	held := map[string][]*balance.Member{}
	for range 8 {
		m := p.Pick(nil, all)
		held[m.Instance.ID] = append(held[m.Instance.ID], m)
	}
	if len(held["a"]) != 2 || len(held["b"]) != 2 || len(held["c"]) != 4 {
		t.Errorf("got %d, %d and %d requests", len(held["a"]), len(held["b"]), len(held["c"]))
	}
	for _, m := range held["b"] {
		m.Done(false)
	}
	if m := p.Pick(nil, all); m.Instance.ID != "b" || m.Pending() != 1 {
		t.Errorf("got %s with %d requests, want b with one", m.Instance.ID, m.Pending())
	}
	p = newPool(balance.Config{Balancer: &balance.LeastConnections{}})
	if got := order(p, list("a", "b", "c"), 6); got != "a b c a b c" {
		t.Errorf("idle instances: got %s", got)
	}
}

// Of two instances that are drawn, the one with fewer requests under way is next; they are never the same one.
func TestTwoChoices(t *testing.T) {
	var drawn []int
	b := &balance.TwoChoices{Random: func(n int) int {
		next := drawn[0]
		if drawn = drawn[1:]; next >= n {
			t.Fatalf("drew %d of %d", next, n)
		}
		return next
	}}
	p, all := newPool(balance.Config{Balancer: b}), list("a", "b", "c")
	for i, c := range []struct {
		draw [2]int
		want string
	}{
		{[2]int{1, 0}, "b"}, // of b and a, both idle
		{[2]int{1, 0}, "a"}, // b has one
		{[2]int{0, 0}, "a"}, // of a and b, both with one: the first
		{[2]int{0, 1}, "c"}, // of a and c
		{[2]int{2, 1}, "c"}, // of c and b, both with one
	} {
		drawn = c.draw[:]
		if m := p.Pick(nil, all); m.Instance.ID != c.want {
			t.Errorf("draw %d: got %s, want %s", i, m.Instance.ID, c.want)
		}
	}
}

// from returns a request of the client with that address.
func from(addr string) *http.Request { return &http.Request{RemoteAddr: addr} }

// addresses returns the instance of each of many client addresses.
func addresses(p *balance.Pool, instances []discovery.Instance) map[string]string {
	got := map[string]string{}
	for n := range 10_000 {
		addr := fmt.Sprintf("10.0.%d.%d:4711", n/256, n%256)
		m := p.Pick(from(addr), instances)
		m.Done(false)
		got[addr] = m.Instance.ID
	}
	return got
}

// An address has the same instance whatever its port is and in whatever order the instances are listed. When one of ten
// goes, only its addresses move; when one comes, only it gets any: about a tenth.
func TestIPHash(t *testing.T) {
	ids := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}
	ten, nine := list(ids...), list(ids[:9]...)
	slices.Reverse(nine)
	p := newPool(balance.Config{Balancer: &balance.IPHash{}})
	before, after := addresses(p, ten), addresses(newPool(balance.Config{Balancer: &balance.IPHash{}}), nine)
	moved, count := 0, map[string]int{}
	for addr, id := range before {
		count[id]++
		if after[addr] != id {
			moved++
			if id != "j" {
				t.Fatalf("%s moved from %s to %s, which both stay", addr, id, after[addr])
			}
		}
	}
	if moved != count["j"] || moved < 800 || moved > 1200 {
		t.Errorf("%d addresses moved, of %d", moved, count["j"])
	}
	for id, n := range count {
		if n < 800 || n > 1200 {
			t.Errorf("%s has %d of 10,000 addresses", id, n)
		}
	}
	if a, b := p.Pick(from("10.0.0.1:1"), ten), p.Pick(from("10.0.0.1:2"), ten); a != b {
		t.Error("another port has another instance")
	}
	count = map[string]int{}
	for _, id := range addresses(newPool(balance.Config{Balancer: &balance.IPHash{}}), list("a", "b:3")) {
		count[id]++
	}
	if count["b"] < 7000 || count["b"] > 8000 {
		t.Errorf("with three times the weight: %v", count)
	}
}

// Each name is that of another balancer, and an unknown one names them all.
func TestByName(t *testing.T) {
	for _, name := range balance.Names() {
		if b, err := balance.ByName(name); err != nil || b == nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
	_, err := balance.ByName("random")
	want := `unknown balancer "random" ` +
		`(use ip-hash, least-connections, round-robin, two-choices, weighted-round-robin)`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
