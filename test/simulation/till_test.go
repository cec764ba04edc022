package simulation_test

import (
	"bytes"
	"context"
	"regexp"
	"testing"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/test/simulation"
)

var brokenTills = []struct {
	name   string
	broken simulation.BrokenTill
	faults []simulate.Kind // each finds it alone, on a seed that passes without faults; nil: it is found without any
}{
	{"calls inside its transaction", simulation.BrokenTill{Inside: true}, []simulate.Kind{simulate.Conflict}},
	{"has one key for all calls", simulation.BrokenTill{OneKey: true}, nil},
	{"has a key for each try of a request", simulation.BrokenTill{
		KeyOf: func(tx *function.Tx) string { return tx.NewID() + "/tip" },
	}, []simulate.Kind{simulate.CrashBeforeCommit, simulate.RemoteErrorAfter, simulate.Scale}},
	{"does not store what it refuses", simulation.BrokenTill{
		Change: forgetting("_idempotency", func(m store.Mutation) bool {
			return bytes.Contains(m.Data, []byte(`"refused":true`))
		}).Change,
	}, nil},
	{"forgets the calls that it has to make", simulation.BrokenTill{Change: forgetting("_calls", nil).Change}, nil},
	{"forgets the results of calls", simulation.BrokenTill{Change: forgetting("_calls", func(m store.Mutation) bool {
		return m.Data == nil
	}).Change}, nil},
	{"does not know what a message has left, and never sweeps", simulation.BrokenTill{Change: leavingNothing},
		[]simulate.Kind{simulate.CrashAfterCommit}},
}

var followNames = regexp.MustCompile(`,"follow":\{[^}]*\}`)

// leavingNothing is a change of a function whose inbox entries do not name what is left to do, and whose calls are
// never due.
func leavingNothing(c *simulate.Function) {
	due := regexp.MustCompile(`"due":[0-9]+`)
	committing(func(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
		b = rewriting(b, "_inbox", followNames, "")
		b = rewriting(b, "_idempotency", followNames, "")
		return db.Commit(ctx, rewriting(b, "_calls", due, `"due":99999999999999`))
	}).Change(c)
}

// Every call of the bank is made under a key of its own, and again only where a fault explains it; each request and
// each event has its effect once. Each promise that this rests on is needed.
func TestTill(t *testing.T) {
	const within = 200
	holds(t, simulate.Runner{System: simulation.Till(simulation.BrokenTill{}), First: 1, Seeds: within})
	for _, b := range brokenTills {
		kinds := b.faults
		if kinds == nil {
			kinds = []simulate.Kind{""}
		}
		for _, kind := range kinds {
			t.Run(b.name+"/"+string(kind), func(t *testing.T) {
				sys, without := simulation.Till(b.broken), simulation.Till(b.broken)
				sys.Faults, sys.MaxFaults, without.MaxFaults = []simulate.Kind{kind}, 40, -1
				if b.faults == nil {
					sys = without
				}
				for seed := uint64(1); seed <= within; seed++ {
					r := simulate.Run(sys, seed)
					if !r.OK() && (b.faults == nil || simulate.Run(without, seed).OK()) {
						t.Logf("seed %d: %s", seed, r.Violations[0].Text)
						return
					}
				}
				t.Errorf("%d seeds find no violation in a till that %s", within, b.name)
			})
		}
	}
}
