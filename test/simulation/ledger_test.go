package simulation_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/test/simulation"
)

// Every promise of the ledger holds under all kinds of faults.
func TestLedger(t *testing.T) {
	holds(t, simulate.Runner{System: simulation.Ledger(simulation.Broken{}), First: *first, Seeds: *seeds})
}

// storing returns a system whose functions have a changed store.
func storing(change func(store.Driver) store.Driver) simulation.Broken {
	return simulation.Broken{Change: env(func(e *function.Env) {
		open := e.Store
		e.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, schema)
			if err != nil {
				return nil, err
			}
			return change(db), nil
		}
	})}
}

var brokenLedgers = []struct {
	name   string
	broken simulation.Broken
}{
	{"writes what a query returned whatever it has become", storing(func(db store.Driver) store.Driver {
		return afresh{driver{Driver: db}, map[store.Key]bool{}}
	})},
	{"begins to count versions again when a document was deleted", simulation.Broken{Change: env(func(e *function.Env) {
		open := e.Store
		e.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			schema = slices.Clone(schema)
			for i := range schema {
				schema[i].SingleUse = true
			}
			return open(ctx, name, schema)
		}
	})}},
	{"does not check what a refusal was decided on", storing(func(db store.Driver) store.Driver {
		return credulous{driver{Driver: db}, map[store.Key]store.Document{}}
	})},
	{"ends a query at the documents that are deleted", storing(func(db store.Driver) store.Driver {
		return ending{driver{Driver: db}}
	})},
	{"keeps a member whose name differs in case", storing(func(db store.Driver) store.Driver {
		return hoarding{driver{Driver: db}, "labels"}
	})},
	{"keeps what it does not know when it erases a person", storing(func(db store.Driver) store.Driver {
		return hoarding{driver{Driver: db}, "persons"}
	})},
	{"lets a refusal stand whose neighbour is not committed", simulation.Broken{
		Handle: func(_ string, next broker.Handler) broker.Handler {
			return func(ctx context.Context, batch []ce.Event) []broker.Result {
				return hasty(batch, next(ctx, batch))
			}
		},
	}},
}

// Each promise of the store is needed: without it, the ledger breaks.
func TestBrokenLedger(t *testing.T) {
	const within = 200
	for _, b := range brokenLedgers {
		t.Run(b.name, func(t *testing.T) {
			if search(t, simulate.Runner{System: simulation.Ledger(b.broken), Seeds: within}, nil) == nil {
				t.Fatalf("%d seeds find no violation in a ledger that %s", within, b.name)
			}
		})
	}
}

// afresh is a store that reads a document again before it is written, unless it was read by its key, and takes the
// version that it finds as the one that was read.
type afresh struct {
	driver
	byKey map[store.Key]bool // read by its key since the last query that returned it
}

func (d afresh) Get(ctx context.Context, keys ...store.Key) ([]store.Document, error) {
	for _, k := range keys {
		d.byKey[k] = true
	}
	return d.Driver.Get(ctx, keys...)
}

func (d afresh) Query(ctx context.Context, q store.Query) ([]store.Document, bool, error) {
	docs, more, err := d.Driver.Query(ctx, q)
	for _, doc := range docs {
		delete(d.byKey, doc.Key)
	}
	return docs, more, err
}

func (d afresh) Commit(ctx context.Context, b store.Batch) error {
	b.Preconditions, b.Mutations = slices.Clone(b.Preconditions), slices.Clone(b.Mutations)
	for i, p := range b.Preconditions {
		if p.Version == 0 || d.byKey[p.Key] {
			continue
		}
		docs, err := d.Driver.Get(ctx, p.Key)
		if err != nil {
			return err
		}
		b.Preconditions[i].Version = docs[0].Version
		for n := range b.Mutations {
			if m := &b.Mutations[n]; m.Key == p.Key {
				m.Version += docs[0].Version - p.Version
			}
		}
	}
	return d.Driver.Commit(ctx, b)
}

// credulous is a store that finds the pans as they were when it is asked for both again, and that does not require that
// they are unchanged when they are not written.
type credulous struct {
	driver
	was map[store.Key]store.Document
}

func (d credulous) Get(ctx context.Context, keys ...store.Key) ([]store.Document, error) {
	docs, err := d.Driver.Get(ctx, keys...)
	pans := 0
	for _, doc := range docs {
		if doc.Collection == "pans" {
			pans++
		}
	}
	for i, doc := range docs {
		switch {
		case doc.Collection != "pans":
		case pans > 1:
			docs[i] = d.was[doc.Key]
		default:
			d.was[doc.Key] = doc
		}
	}
	return docs, err
}

func (d credulous) Commit(ctx context.Context, b store.Batch) error {
	pans := func(k store.Key) bool { return k.Collection == "pans" }
	if !slices.ContainsFunc(b.Mutations, func(m store.Mutation) bool { return pans(m.Key) }) {
		b.Preconditions = slices.DeleteFunc(slices.Clone(b.Preconditions), func(p store.Precondition) bool {
			return pans(p.Key)
		})
	}
	return d.Driver.Commit(ctx, b)
}

// hasty returns the results of a batch that was not committed with the refusal of each claim of a name that an event
// before it has claimed.
func hasty(batch []ce.Event, results []broker.Result) []broker.Result {
	claimed := map[string]bool{}
	results = slices.Clone(results)
	for i, e := range batch {
		if !strings.HasSuffix(e.Type(), ".ledger.claim.v1") {
			continue
		}
		if claimed[e.Subject()] && results[i].Status == http.StatusServiceUnavailable {
			results[i] = broker.Result{Status: http.StatusUnprocessableEntity, Message: "another has the name"}
		}
		claimed[e.Subject()] = true
	}
	return results
}

// ending is a store that finds no scraps beyond the first that it was asked for.
type ending struct{ driver }

func (d ending) Query(ctx context.Context, q store.Query) ([]store.Document, bool, error) {
	if q.Collection == "scraps" && q.After != nil {
		return nil, false, nil
	}
	return d.Driver.Query(ctx, q)
}

func (d ending) Commit(ctx context.Context, b store.Batch) error { return d.Driver.Commit(ctx, b) }

// hoarding is a store that keeps the members of a collection which a write does not have, by their exact names.
type hoarding struct {
	driver
	collection string
}

func (d hoarding) Commit(ctx context.Context, b store.Batch) error {
	b.Mutations = slices.Clone(b.Mutations)
	for i, m := range b.Mutations {
		if m.Collection != d.collection {
			continue
		}
		docs, err := d.Driver.Get(ctx, m.Key)
		if err != nil {
			return err
		}
		var before, after map[string]json.RawMessage
		_, _ = json.Unmarshal(docs[0].Data, &before), json.Unmarshal(m.Data, &after)
		for name, v := range before {
			if _, has := after[name]; !has {
				b.Mutations[i].Data = fmt.Appendf(nil, "%s,%q:%s}", m.Data[:len(m.Data)-1], name, v)
			}
		}
	}
	return d.Driver.Commit(ctx, b)
}
