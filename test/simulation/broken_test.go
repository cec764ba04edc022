package simulation_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
	"github.com/ebb-dev/ebb/test/simulation"
)

// commit is what a broken driver makes of a commit.
type commit func(ctx context.Context, db store.Driver, say broker.Publisher, b store.Batch) error

// driver is a store that does not keep the port's promises.
type driver struct {
	store.Driver
	say    broker.Publisher
	commit commit
}

func (d driver) Commit(ctx context.Context, b store.Batch) error {
	return d.commit(ctx, d.Driver, d.say, b)
}

// Pause implements what store.Update looks for.
func (d driver) Pause(ctx context.Context, n int) {
	d.Driver.(interface{ Pause(context.Context, int) }).Pause(ctx, n)
}

// env changes what every version of a capability is given.
func env(change func(*function.Env)) func(*simulate.Capability) {
	return func(c *simulate.Capability) {
		first, next := c.New, c.Next
		c.New = func(e function.Env) (*function.Function, error) { change(&e); return first(e) }
		c.Next = func(e function.Env) (*function.Function, error) { change(&e); return next(e) }
	}
}

func committing(by commit) simulation.Broken {
	return simulation.Broken{Change: env(func(e *function.Env) {
		open, say := e.Store, e.Publisher
		e.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, schema)
			return driver{db, say, by}, err
		}
	})}
}

// without is the batch without the writes that are meant.
func without(b store.Batch, meant func(store.Mutation) bool) store.Batch {
	b.Mutations = slices.DeleteFunc(slices.Clone(b.Mutations), meant)
	return b
}

// forgetting is a shop whose stores lose writes to a collection.
func forgetting(collection string, meant func(store.Mutation) bool) simulation.Broken {
	return committing(func(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
		return db.Commit(ctx, without(b, func(m store.Mutation) bool { return m.Collection == collection && (meant == nil || meant(m)) }))
	})
}

// publisher is a broker's front that does not keep the port's promises.
type publisher func(ctx context.Context, es []ce.Event) error

func (p publisher) Publish(ctx context.Context, es ...ce.Event) error { return p(ctx, es) }

func publishing(by func(ctx context.Context, to broker.Publisher, es []ce.Event) error) simulation.Broken {
	return simulation.Broken{Change: env(func(e *function.Env) {
		to := e.Publisher
		e.Publisher = publisher(func(ctx context.Context, es []ce.Event) error { return by(ctx, to, es) })
	})}
}

// answering is a shop whose host changes what functions answer to events.
func answering(by func(broker.Result) broker.Result) simulation.Broken {
	return simulation.Broken{Handle: func(_ string, next broker.Handler) broker.Handler {
		return func(ctx context.Context, batch []ce.Event) []broker.Result {
			results := slices.Clone(next(ctx, batch))
			for i := range results {
				results[i] = by(results[i])
			}
			return results
		}
	}}
}

// publishFirst is a unit of work that says what it is about to do.
func publishFirst(ctx context.Context, db store.Driver, say broker.Publisher, b store.Batch) error {
	for _, m := range b.Mutations {
		var entry struct{ Events []ce.Event }
		if m.Collection == "_outbox" && m.Data != nil && json.Unmarshal(m.Data, &entry) == nil {
			if err := say.Publish(ctx, entry.Events...); err != nil {
				return err
			}
		}
	}
	return db.Commit(ctx, b)
}

// inHalves is a commit that is not atomic.
func inHalves(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
	half := len(b.Mutations) / 2
	if half > 0 {
		if err := db.Commit(ctx, store.Batch{Preconditions: b.Preconditions, Mutations: b.Mutations[:half]}); err != nil {
			return err
		}
		b.Preconditions = nil
	}
	return db.Commit(ctx, store.Batch{Preconditions: b.Preconditions, Mutations: b.Mutations[half:]})
}

func status(m store.Mutation, want string) bool {
	return bytes.Contains(m.Data, []byte(`"status":"`+want+`"`))
}

// stripped is a document without its last member, if that was kept for another version.
func stripped(data []byte) []byte {
	if at := bytes.LastIndex(data, []byte(`,"added_by_the_next_version":`)); at >= 0 {
		return append(bytes.Clone(data[:at]), '}')
	}
	return data
}

// amnesia is a next version that does not find what the one before it has kept.
func amnesia(c *simulate.Capability) {
	if c.Name != "orders" {
		return
	}
	next, fresh := c.Next, memory.Opener()
	c.Next = func(e function.Env) (*function.Function, error) {
		e.Store = fresh
		return next(e)
	}
}

var brokenShops = []struct {
	name   string
	broken simulation.Broken
	faults []simulate.Kind // each of which shows it alone
	always bool            // it shows without a fault too
}{
	{"drops the inbox", forgetting("_inbox", nil),
		[]simulate.Kind{simulate.Duplicate, simulate.LoseAck, simulate.Twin, simulate.CrashAfterPublish, simulate.BrokerErrorAfter}, false},
	{"drops the outbox", forgetting("_outbox", nil),
		[]simulate.Kind{simulate.CrashAfterCommit, simulate.BrokerError, simulate.StoreErrorAfter, simulate.BrokerErrorPart}, false},
	{"publishes before it commits", committing(publishFirst),
		[]simulate.Kind{simulate.CrashBeforeCommit}, false},
	{"forgets preconditions", committing(func(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
		return db.Commit(ctx, store.Batch{Mutations: b.Mutations})
	}), []simulate.Kind{simulate.Twin}, false},
	{"takes a lost race for a won one", committing(func(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
		err := db.Commit(ctx, b)
		if fault.Is(err, fault.Conflict) {
			return nil
		}
		return err
	}), []simulate.Kind{simulate.Conflict}, false},
	{"commits in halves", committing(inHalves),
		[]simulate.Kind{simulate.CrashBeforeCommit, simulate.StoreErrorAfter, simulate.CrashAfterCommit}, false},
	{"acknowledges before it commits", answering(func(r broker.Result) broker.Result {
		return broker.Result{Status: http.StatusOK}
	}), []simulate.Kind{simulate.StoreError, simulate.BrokerError, simulate.Conflict}, false},
	{"swallows what it cannot take", answering(func(r broker.Result) broker.Result {
		if r.Status == http.StatusUnprocessableEntity {
			r.Status = http.StatusOK
		}
		return r
	}), []simulate.Kind{simulate.Poison}, false},
	{"loses an undo", publishing(func(ctx context.Context, to broker.Publisher, es []ce.Event) error {
		return to.Publish(ctx, slices.DeleteFunc(slices.Clone(es), func(e ce.Event) bool { return e.Type() == events.InventoryRelease.Name() })...)
	}), []simulate.Kind{simulate.RemoteSlow, simulate.Delay}, true},
	{"does not believe the broker's errors", publishing(func(ctx context.Context, to broker.Publisher, es []ce.Event) error {
		_ = to.Publish(ctx, es...)
		return nil
	}), []simulate.Kind{simulate.BrokerError, simulate.BrokerErrorPart}, false},
	{"forgets kept answers", forgetting("_idempotency", nil),
		[]simulate.Kind{simulate.LoseAnswer, simulate.CrashAfterCommit, simulate.StoreErrorAfter}, false},
	{"forgets an undo that overtakes its command", forgetting("payments", func(m store.Mutation) bool { return m.Version == 1 && status(m, "voided") }),
		[]simulate.Kind{simulate.Reorder}, false},
	{"calls the bank without a key", simulation.Broken{Careless: true},
		[]simulate.Kind{simulate.RemoteErrorAfter}, false},
	{"writes documents as its own version knows them", committing(func(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
		for i, m := range b.Mutations {
			b.Mutations[i].Data = stripped(m.Data)
		}
		return db.Commit(ctx, b)
	}), []simulate.Kind{simulate.Deploy}, false},
	{"forgets everything in its next version", simulation.Broken{Change: amnesia},
		[]simulate.Kind{simulate.Deploy}, false},
}

// Each promise that the kit makes is there for a reason: without it, faults of one kind alone soon break the
// shop, on a seed that without the faults breaks nothing.
func TestBroken(t *testing.T) {
	const within = 200
	for _, b := range brokenShops {
		for _, kind := range b.faults {
			t.Run(b.name+"/"+string(kind), func(t *testing.T) {
				sys := simulation.Shop(b.broken)
				sys.Faults, sys.Most = []simulate.Kind{kind}, 40
				without := sys
				without.Most = -1
				var found atomic.Pointer[simulate.Report]
				r := simulate.Runner{System: sys, First: 1, Seeds: within, Around: bubbled(t), Enough: func(failed *simulate.Report) bool {
					if !b.always && !simulate.Run(without, failed.Seed).OK() {
						return false // it was not the fault
					}
					found.Store(failed)
					return true
				}}
				r.Run(t.Context())
				if found.Load() == nil {
					t.Fatalf("%d seeds find nothing wrong with a shop that %s", within, b.name)
				}
				t.Logf("seed %d: %s", found.Load().Seed, found.Load().Violations[0].Text)
			})
		}
	}
}

// What is never forgotten is found too, without any fault: it only takes time.
func TestNeverForgets(t *testing.T) {
	gone := func(m store.Mutation) bool { return m.Data == nil }
	for _, c := range []struct{ collection, text string }{
		{"_inbox", "older than three days"}, {"_idempotency", "older than a day"}, {"_outbox", "without end"},
	} {
		sys := simulation.Shop(forgetting(c.collection, gone))
		sys.Most, sys.Age = -1, 1
		if r := simulate.Run(sys, 3); r.OK() || !strings.Contains(r.Violations[0].Text, c.text) {
			t.Errorf("%s: got %s", c.collection, r)
		}
	}
}
