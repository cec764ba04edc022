package main

import (
	"math/rand/v2"
	"testing"
)

// A few kills, some of them during recovery. make crash runs hundreds.
func TestKills(t *testing.T) {
	o := &options{rounds: 4, orders: 120, seed: rand.Uint64(), dir: t.TempDir(), binary: fixtureOf(t).binary}
	o.random = rand.New(rand.NewPCG(o.seed, 0))
	k, err := kills(t.Context(), o)
	if err != nil {
		t.Fatalf("seed %d: %v", o.seed, err)
	}
	t.Log(k)
}
