package simulation_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/test/simulation"
)

// Everything that expires is removed in time over weeks under all kinds of faults, and over more than a year.
func TestYears(t *testing.T) {
	holds(t, simulate.Runner{System: simulation.Years(nil), First: 1, Seeds: 50})
}

// keeping returns a change of a function whose store does not remove what matches.
func keeping(meant func(store.Batch, store.Mutation) bool) func(*simulate.Function) {
	return committing(func(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
		return db.Commit(ctx, without(b, func(m store.Mutation) bool { return m.Data == nil && meant(b, m) }))
	}).Change
}

// frontOnly is a store in which expired inbox entries are found at the front only, as older versions of the kit did: in
// the order of ids, and no further than a portion.
type frontOnly struct{ driver }

func (d frontOnly) Query(ctx context.Context, q store.Query) ([]store.Document, bool, error) {
	if q.Collection != "_inbox" || len(q.Where) == 0 {
		return d.driver.Query(ctx, q)
	}
	docs, _, err := d.driver.Query(ctx, store.Query{Collection: q.Collection, Limit: q.Limit})
	return slices.DeleteFunc(docs, func(d store.Document) bool { return !store.Match(d.Data, q.Where) }), false, err
}

func inFull(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
	return db.Commit(ctx, b)
}

func frontOfInbox() func(*simulate.Function) {
	return env(func(e *function.Env) {
		open := e.Store
		e.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, schema)
			return frontOnly{driver{db, nil, inFull}}, err
		}
	})
}

// Each part of the expiry is needed: without it documents stay, which is found within 200 seeds.
func TestNothingIsForgotten(t *testing.T) {
	const within = 200
	for name, change := range map[string]func(*simulate.Function){
		"events without a time stay in the inbox": keeping(func(_ store.Batch, m store.Mutation) bool {
			return m.Collection == "_inbox" && strings.HasPrefix(m.ID, "ffffffff")
		}),
		"old events block the inbox": frontOfInbox(),
		"stored responses are removed with events only": keeping(func(b store.Batch, m store.Mutation) bool {
			return m.Collection == "_idempotency" && !slices.ContainsFunc(b.Mutations, func(m store.Mutation) bool {
				return m.Collection == "_inbox"
			})
		}),
		"records of acts stay": keeping(func(_ store.Batch, m store.Mutation) bool { return m.Collection == "_audit" }),
		"an author's documents stay": keeping(func(_ store.Batch, m store.Mutation) bool {
			return m.Collection == "reminders"
		}),
	} {
		t.Run(name, func(t *testing.T) {
			found := search(t, simulate.Runner{System: simulation.Years(change), Seeds: within}, nil)
			if found == nil || !strings.Contains(found.Violations[0].Text, "past its time") {
				t.Fatalf("%d seeds do not find that %s: %v", within, name, found)
			}
		})
	}
}
