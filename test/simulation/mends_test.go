package simulation_test

import (
	"context"
	"slices"
	"testing"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/test/simulation"
)

// blindly commits without asking whether the letters and mends are as they were read.
func blindly(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
	b.Preconditions = slices.DeleteFunc(slices.Clone(b.Preconditions), func(p store.Precondition) bool {
		return p.Collection == "dead_letters" || p.Collection == "mends"
	})
	return db.Commit(ctx, b)
}

// Dead letters are mended and sent once each by several jobs at once, under all kinds of faults. Where the archive does
// not see that a letter has changed since it read it, one is sent twice.
func TestMends(t *testing.T) {
	const within = 200
	holds(t, simulate.Runner{System: simulation.Mends(simulation.Broken{}), First: 1, Seeds: within / 4})
	r := simulate.Runner{System: simulation.Mends(committing(blindly)), Seeds: within}
	if search(t, r, nil) == nil {
		t.Errorf("%d seeds find no violation where letters are written blindly", within)
	}
}
