package simulation_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/test/simulation"
)

// forgetful gives the archive dead letters of which it does not know which failure it knows.
func forgetful(c *simulate.Function) {
	env(func(e *function.Env) {
		open := e.Store
		e.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, schema)
			commit := func(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
				return db.Commit(ctx, b)
			}
			return reading{driver{db, nil, commit}, func(d store.Document) store.Document {
				if d.Collection == "dead_letters" && d.Version > 0 {
					d.Data = append([]byte(`{"failed":-1,`), bytes.TrimPrefix(d.Data, []byte("{"))...)
				}
				return d
			}}, err
		}
	})(c)
}

// A dead letter that was dropped stays dropped when its delivery comes again, under all kinds of faults. Where the
// archive does not know that it knows the failure, it waits again.
func TestLetters(t *testing.T) {
	const within = 200
	holds(t, simulate.Runner{System: simulation.Letters(simulation.Broken{}), First: 1, Seeds: within})
	r := simulate.Runner{System: simulation.Letters(simulation.Broken{Change: forgetful}), Seeds: within}
	if search(t, r, nil) == nil {
		t.Errorf("%d seeds find no violation where a known failure is taken for a new one", within)
	}
}
