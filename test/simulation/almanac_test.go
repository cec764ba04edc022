package simulation_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/test/simulation"
)

// Every run of a schedule is made once, under all kinds of faults.
func TestAlmanac(t *testing.T) {
	holds(t, simulate.Runner{System: simulation.Almanac(nil), First: 1, Seeds: 60})
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
			r := simulate.Runner{System: simulation.Almanac(broken.Change), Seeds: within, Every: time.Minute}
			found := search(t, r, nil)
			if found == nil || !strings.Contains(found.Violations[0].Text, "run") {
				t.Fatalf("%d seeds do not find that %s: %v", within, name, found)
			}
		})
	}
}
