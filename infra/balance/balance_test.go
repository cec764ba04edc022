package balance_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/ebb-dev/ebb/infra/balance"
	"github.com/ebb-dev/ebb/infra/discovery"
)

// Round robin takes the instances in order, and goes on when there are more or fewer.
func TestRoundRobin(t *testing.T) {
	all := []discovery.Instance{{ID: "a"}, {ID: "b"}, {ID: "c"}}
	var b balance.RoundRobin
	var got []string
	for _, n := range []int{3, 3, 3, 3, 2, 2, 1, 1, 2} {
		got = append(got, all[b.Choose(nil, all[:n])].ID)
	}
	if want := []string{"a", "b", "c", "a", "a", "b", "a", "a", "a"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Callers at the same time share the instances equally.
func TestRoundRobinConcurrently(t *testing.T) {
	all := []discovery.Instance{{ID: "a"}, {ID: "b"}, {ID: "c"}, {ID: "d"}}
	var b balance.RoundRobin
	var mu sync.Mutex
	got := map[int]int{}
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 100 {
				i := b.Choose(nil, all)
				mu.Lock()
				got[i]++
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	for i := range all {
		if got[i] != 200 {
			t.Errorf("instance %d was chosen %d times, want 200: %v", i, got[i], got)
		}
	}
}
