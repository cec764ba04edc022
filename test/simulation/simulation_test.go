package simulation_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/test/simulation"
)

var (
	seeds = flag.Int("seeds", 200, "how many seeds TestShop runs")
	first = flag.Uint64("first", 1, "the first of them")
	print = flag.Uint64("digest", 0, "print the digest of this seed and run nothing")
	tell  = flag.Uint64("tell", 0, "print the whole trace of this seed and run no other")
)

// TestMain sets the garbage collector to run less often: a run makes much garbage and keeps little.
func TestMain(m *testing.M) {
	flag.Parse()
	debug.SetGCPercent(400)
	if *print > 0 {
		fmt.Printf("%x", simulate.Run(simulation.Shop(simulation.Broken{}), *print).Digest)
		return
	}
	os.Exit(m.Run())
}

// bubbled returns a func that runs another in a synctest bubble, where waits take no real time.
func bubbled(t *testing.T) func(func()) {
	return func(run func()) { synctest.Test(t, func(*testing.T) { run() }) }
}

// Every promise of the shop holds under all kinds of faults.
func TestShop(t *testing.T) {
	around, shop := bubbled(t), simulation.Shop(simulation.Broken{})
	if *tell > 0 {
		around(func() { t.Log(simulate.Trace(shop, *tell)) })
		return
	}
	r := simulate.Runner{System: shop, First: *first, Seeds: *seeds, Around: around, Every: 2 * time.Second}
	if testing.Verbose() {
		r.OnProgress = func(p simulate.Progress) { fmt.Fprintln(os.Stderr, p) }
	}
	p, failed := r.Run(t.Context())
	t.Log(p)
	for _, f := range failed {
		around(func() { t.Errorf("%s", simulate.Shrink(shop, f.Seed)) })
	}
	for _, kind := range simulate.Kinds() {
		if p.Done >= 100 && p.Injected[kind] == 0 {
			t.Errorf("in %d seeds no %q was ever injected", p.Done, kind)
		}
	}
	for _, warning := range p.Warnings() {
		t.Logf("WARNING: %s", warning)
		if p.Done >= 100 {
			t.Errorf("the simulation proves little: %s", warning)
		}
	}
	if p.Done >= 100 && p.Counts["revoked keys"] < p.Done {
		t.Errorf("in %d seeds only %d requests had a revoked key", p.Done, p.Counts["revoked keys"])
	}
	if p.Done >= 100 && p.Counts["revoked tokens"] < p.Done {
		t.Errorf("in %d seeds only %d requests had a revoked token", p.Done, p.Counts["revoked tokens"])
	}
	if p.Failed == 0 && p.Counts["orders"] < 10**seeds {
		t.Errorf("%d seeds made %d orders only", *seeds, p.Counts["orders"])
	}
}

// A seed does the same again: alone or beside others, in a bubble or not, traced or not, and in another process.
// Another seed does something else.
func TestSeedReplaysExactly(t *testing.T) {
	shop := simulation.Shop(simulation.Broken{})
	digests := map[uint64]uint64{}
	for seed := uint64(1); seed <= 8; seed++ {
		digests[seed] = simulate.Run(shop, seed).Digest
	}
	for seed := uint64(1); seed <= 8; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			bubbled(t)(func() {
				if got := simulate.Trace(shop, seed); got.Digest != digests[seed] || len(got.Trace) == 0 {
					t.Errorf("seed %d: got %x, then %x", seed, digests[seed], got.Digest)
				}
			})
		})
	}
	other, err := exec.CommandContext(t.Context(), os.Args[0], "-digest", "5").Output()
	if want := fmt.Sprintf("%x", digests[5]); err != nil || string(other) != want {
		t.Errorf("another process: got %s, %v, want %s", other, err, want)
	}
	if digests[1] == digests[2] {
		t.Error("two seeds do the same")
	}
}

// The trace of a failure is short: it keeps the faults and actions that the failure needs.
func TestShortestTrace(t *testing.T) {
	shop := simulation.Shop(forgetting("_idempotency", nil))
	for seed := uint64(1); ; seed++ {
		whole := simulate.Run(shop, seed)
		if whole.OK() || len(whole.Faults) < 5 {
			continue
		}
		short := simulate.Shrink(shop, seed)
		if len(short.Faults) != 1 || len(short.Actions) != 1 || short.Violations[0].Class != whole.Violations[0].Class {
			t.Errorf("got %s", short)
		}
		if text := short.String(); !strings.Contains(text, "FAULT") || !strings.Contains(text, "VIOLATED") ||
			!strings.Contains(text, "orders.placed") {
			t.Errorf("the trace lacks a line: %s", text)
		}
		return
	}
}
