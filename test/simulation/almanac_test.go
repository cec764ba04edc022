package simulation_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/test/simulation"
)

// Every run of a schedule is made once, under all kinds of faults.
func TestAlmanac(t *testing.T) {
	sys := simulation.Almanac(nil)
	r := simulate.Runner{System: sys, First: 1, Seeds: 60, Around: bubbled(t)}
	p, failed := r.Run(t.Context())
	t.Log(p)
	for _, f := range failed {
		bubbled(t)(func() { t.Errorf("%s", simulate.Shrink(sys, f.Seed)) })
	}
}

// Each part of the schedules is needed: without it runs are made twice or not at all.
func TestBrokenAlmanac(t *testing.T) {
	const within = 200
	schedules := func(m store.Mutation) bool { return m.Collection == "schedules" }
	for name, broken := range map[string]simulation.Broken{
		"the next run is not noted": forgetting("schedules", func(m store.Mutation) bool { return m.Version > 1 }),
		"runs are made at once and noted later": committing(
			func(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
				if err := db.Commit(ctx, without(b, schedules)); err != nil {
					return err
				}
				rest := without(b, func(m store.Mutation) bool { return !schedules(m) })
				return db.Commit(ctx, store.Batch{Mutations: rest.Mutations})
			}),
	} {
		t.Run(name, func(t *testing.T) {
			var found atomic.Pointer[simulate.Report]
			r := simulate.Runner{
				System: simulation.Almanac(broken.Change), First: 1, Seeds: within, Around: bubbled(t), Every: time.Minute,
				Enough: func(failed *simulate.Report) bool { found.Store(failed); return true },
			}
			r.Run(t.Context())
			if found.Load() == nil || !strings.Contains(found.Load().Violations[0].Text, "run") {
				t.Fatalf("%d seeds do not find that %s: %v", within, name, found.Load())
			}
			t.Logf("seed %d: %s", found.Load().Seed, found.Load().Violations[0].Text)
		})
	}
}
