package simulate

import (
	"math/rand/v2"
	"testing"
	"time"
)

// What is put down comes in the order of time, and at the same time in the order in which it was put down.
func TestAgenda(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var a agenda
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

// What is left of a list is what it takes, wherever that stands.
func TestReduce(t *testing.T) {
	sys := System{Begin: func(w *World, _ *rand.Rand) *Scenario {
		done := map[int]bool{}
		s := &Scenario{Check: func(w *World) {
			if done[17] && done[61] {
				w.Violated("both")
			}
		}}
		for n := range 100 {
			s.Actions = append(s.Actions, Action{At: time.Duration(n), What: "act", Do: func(*World) { done[n] = true }})
		}
		return s
	}}
	r := Shrink(sys, 1)
	if len(r.Actions) != 2 || r.OK() {
		t.Errorf("got %s", r)
	}
}
