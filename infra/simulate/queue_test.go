package simulate

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Entries come in the order of time, and at the same time in the order of put.
func TestAgenda(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var a eventQueue
	for range 2000 {
		a.put(time.Duration(r.IntN(50)), nil)
		if r.IntN(3) == 0 {
			a.take()
		}
	}
	for last := a.take(); len(a.items) > 0; {
		e := a.take()
		if e.before(last) {
			t.Fatalf("%v %d came after %v %d", e.at, e.n, last.at, last.n)
		}
		last = e
	}
}

// The shrinker keeps exactly the actions that a violation needs.
func TestReduce(t *testing.T) {
	sys := System{Begin: func(sim *Simulation, _ *rand.Rand) *Scenario {
		done := map[int]bool{}
		s := &Scenario{Check: func(sim *Simulation) {
			if done[17] && done[61] {
				sim.Violated("both")
			}
		}}
		for n := range 100 {
			s.Actions = append(s.Actions, Action{At: time.Duration(n), What: "act", Do: func(*Simulation) { done[n] = true }})
		}
		return s
	}}
	r := Shrink(sys, 1)
	if len(r.Actions) != 2 || r.OK() {
		t.Errorf("got %s", r)
	}
}
