package simulation_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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

// commit replaces the Commit of a driver.
type commit func(ctx context.Context, db store.Driver, out broker.Publisher, b store.Batch) error

// driver is a store that breaks promises of the port.
type driver struct {
	store.Driver
	out    broker.Publisher
	commit commit
}

func (d driver) Commit(ctx context.Context, b store.Batch) error {
	return d.commit(ctx, d.Driver, d.out, b)
}

// Pause forwards to the simulated store, which store.Update waits with.
func (d driver) Pause(ctx context.Context, n int) {
	d.Driver.(interface{ Pause(context.Context, int) }).Pause(ctx, n)
}

// env returns a change of the environment of every version of a function.
func env(change func(*function.Env)) func(*simulate.Function) {
	return func(c *simulate.Function) {
		first, next := c.New, c.Next
		c.New = func(e function.Env) (*function.Function, error) { change(&e); return first(e) }
		c.Next = func(e function.Env) (*function.Function, error) { change(&e); return next(e) }
	}
}

func committing(by commit) simulation.Broken {
	return simulation.Broken{Change: env(func(e *function.Env) {
		open, out := e.Store, e.Publisher
		e.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, schema)
			return driver{db, out, by}, err
		}
	})}
}

// without returns the batch without the mutations that match.
func without(b store.Batch, meant func(store.Mutation) bool) store.Batch {
	b.Mutations = slices.DeleteFunc(slices.Clone(b.Mutations), meant)
	return b
}

// forgetting returns a shop whose stores lose writes to a collection.
func forgetting(collection string, meant func(store.Mutation) bool) simulation.Broken {
	return committing(func(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
		return db.Commit(
			ctx,
			without(b, func(m store.Mutation) bool { return m.Collection == collection && (meant == nil || meant(m)) }),
		)
	})
}

// publisher is a broker.Publisher that breaks promises of the port.
type publisher func(ctx context.Context, es []ce.Event) error

func (p publisher) Publish(ctx context.Context, es ...ce.Event) error { return p(ctx, es) }

func publishing(by func(ctx context.Context, to broker.Publisher, es []ce.Event) error) simulation.Broken {
	return simulation.Broken{Change: env(func(e *function.Env) {
		to := e.Publisher
		e.Publisher = publisher(func(ctx context.Context, es []ce.Event) error { return by(ctx, to, es) })
	})}
}

// answering returns a shop whose host changes the results of functions.
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

// publishFirst publishes the events of a batch before it commits.
func publishFirst(ctx context.Context, db store.Driver, out broker.Publisher, b store.Batch) error {
	for _, m := range b.Mutations {
		var entry struct{ Events []ce.Event }
		if m.Collection == "_outbox" && m.Data != nil && json.Unmarshal(m.Data, &entry) == nil {
			if err := out.Publish(ctx, entry.Events...); err != nil {
				return err
			}
		}
	}
	return db.Commit(ctx, b)
}

// inHalves commits a batch in two parts, but for one with a record of an act of staff: that a change comes without its
// record is seen without any fault.
func inHalves(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
	half := len(b.Mutations) / 2
	acts := slices.ContainsFunc(b.Mutations, func(m store.Mutation) bool { return m.Collection == "_audit" })
	if acts {
		return db.Commit(ctx, b)
	}
	if half > 0 {
		if err := db.Commit(ctx, store.Batch{Preconditions: b.Preconditions, Mutations: b.Mutations[:half]}); err != nil {
			return err
		}
		b.Preconditions = nil
	}
	return db.Commit(ctx, store.Batch{Preconditions: b.Preconditions, Mutations: b.Mutations[half:]})
}

// rewriting returns the batch with the data of a collection's new documents changed.
func rewriting(b store.Batch, collection string, pattern *regexp.Regexp, with string) store.Batch {
	b.Mutations = slices.Clone(b.Mutations)
	for i, m := range b.Mutations {
		if m.Collection == collection && slices.Contains(b.Preconditions, store.Precondition{Key: m.Key}) {
			b.Mutations[i].Data = pattern.ReplaceAll(m.Data, []byte(with))
		}
	}
	return b
}

var (
	entryAt   = regexp.MustCompile(`^\{"at":"[^"]*"`)
	entryName = regexp.MustCompile(`"outbox":"[^"]*"`)
)

// longAgo commits outbox entries that look old, so that nobody waits for the unit that publishes one.
func longAgo(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
	return db.Commit(ctx, rewriting(b, "_outbox", entryAt, `{"at":"2020-01-01T00:00:00Z"`))
}

// nameless commits inbox entries that do not name their outbox entry, as an older version of the kit did.
func nameless(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
	return db.Commit(ctx, rewriting(b, "_inbox", entryName, `"none":""`))
}

var base64Data = regexp.MustCompile(`"data_base64":"([^"]*)"`)

// intoJSON commits events of the archive with their data in the JSON as it is, whatever it is.
func intoJSON(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
	b.Mutations = slices.Clone(b.Mutations)
	for i, m := range b.Mutations {
		if m.Collection != "log" {
			continue
		}
		b.Mutations[i].Data = base64Data.ReplaceAllFunc(m.Data, func(member []byte) []byte {
			data, _ := base64.StdEncoding.DecodeString(string(base64Data.FindSubmatch(member)[1]))
			return append([]byte(`"data":`), data...)
		})
	}
	return db.Commit(ctx, b)
}

// unsealed commits what is appended to the archive although a replay has sealed it since.
func unsealed(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
	if !slices.ContainsFunc(b.Mutations, func(m store.Mutation) bool { return m.Collection == "heads" }) {
		b.Preconditions = slices.DeleteFunc(slices.Clone(b.Preconditions), func(p store.Precondition) bool {
			return p.Collection == "heads"
		})
	}
	return db.Commit(ctx, b)
}

// blindDriver finds no event of the archive that is ahead of the clock.
type blindDriver struct{ driver }

func (d blindDriver) Query(ctx context.Context, q store.Query) ([]store.Document, bool, error) {
	if q.Collection == "log" && q.Limit == 1 && len(q.Where) > 0 {
		return nil, false, nil
	}
	return d.driver.Query(ctx, q)
}

// byOwnClock returns a shop whose archive takes the times of its own clock.
func byOwnClock() simulation.Broken {
	return simulation.Broken{Change: env(func(e *function.Env) {
		open := e.Store
		e.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, schema)
			commit := func(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
				return db.Commit(ctx, b)
			}
			return blindDriver{driver{db, nil, commit}}, err
		}
	})}
}

// refusingChanges returns a shop that answers 503 to a request during which a publish failed.
func refusingChanges() simulation.Broken {
	var failed atomic.Int64
	b := publishing(func(ctx context.Context, to broker.Publisher, es []ce.Event) error {
		err := to.Publish(ctx, es...)
		if err != nil {
			failed.Add(1)
		}
		return err
	})
	b.Serve = func(_ string, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			before, answer := failed.Load(), httptest.NewRecorder()
			next.ServeHTTP(answer, r)
			if failed.Load() > before {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			for name, values := range answer.Header() {
				w.Header()[name] = values
			}
			w.WriteHeader(answer.Code)
			_, _ = w.Write(answer.Body.Bytes())
		})
	}
	return b
}

func status(m store.Mutation, want string) bool {
	return bytes.Contains(m.Data, []byte(`"status":"`+want+`"`))
}

// stripped returns a document without its last member, if that belongs to the next version.
func stripped(data []byte) []byte {
	if at := bytes.LastIndex(data, []byte(`,"added_by_the_next_version":`)); at >= 0 {
		return append(bytes.Clone(data[:at]), '}')
	}
	return data
}

// amnesia gives orders a next version with an empty store.
func amnesia(c *simulate.Function) {
	if c.Name != "orders" {
		return
	}
	next, fresh := c.Next, memory.Opener()
	c.Next = func(e function.Env) (*function.Function, error) {
		e.Store = fresh
		return next(e)
	}
}

// forgettingVoids returns a shop that does not store a void that overtakes its authorize. The authorize that comes
// later holds money for a cancelled order.
func forgettingVoids() simulation.Broken {
	return forgetting("payments", func(m store.Mutation) bool { return m.Version == 1 && status(m, "voided") })
}

// unrevoked returns a shop whose units commit although what they have read of revocations has changed since. With
// remembered, its functions keep in memory that nothing is revoked.
func unrevoked(remembered bool) simulation.Broken {
	return simulation.Broken{Change: env(func(e *function.Env) {
		open := e.Store
		e.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, schema)
			return unrevokedDriver{driver{db, nil, ignoringRevocations}, remembered, map[store.Key]bool{}}, err
		}
	})}
}

func ignoringRevocations(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
	learns := slices.ContainsFunc(b.Mutations, func(m store.Mutation) bool { return m.Collection == "_revoked" })
	if !learns {
		b.Preconditions = slices.DeleteFunc(slices.Clone(b.Preconditions), func(p store.Precondition) bool {
			return p.Collection == "_revoked"
		})
	}
	return db.Commit(ctx, b)
}

// unrevokedKeys returns a shop whose units commit although their key has been revoked since it was read.
func unrevokedKeys() simulation.Broken {
	return committing(func(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
		if !slices.ContainsFunc(b.Mutations, func(m store.Mutation) bool { return m.Collection == "_keys" }) {
			b.Preconditions = slices.DeleteFunc(slices.Clone(b.Preconditions), func(p store.Precondition) bool {
				return p.Collection == "_keys"
			})
		}
		return db.Commit(ctx, b)
	})
}

type unrevokedDriver struct {
	driver
	remembered bool
	missing    map[store.Key]bool
}

func (d unrevokedDriver) Get(ctx context.Context, keys ...store.Key) ([]store.Document, error) {
	docs, err := d.driver.Get(ctx, keys...)
	if err != nil || !d.remembered {
		return docs, err
	}
	for i, doc := range docs {
		switch {
		case doc.Collection != "_revoked":
		case d.missing[doc.Key]:
			docs[i] = store.Document{Key: doc.Key}
		case doc.Version == 0:
			d.missing[doc.Key] = true
		}
	}
	return docs, nil
}

// impatient returns the trigger with a delivery for which every answer counts as an attempt.
func impatient(t broker.Trigger) broker.Trigger {
	t.Delivery.Patience = 0
	return t
}

// tireless returns the trigger with a delivery that never gives up, as one does whose attempts die with the process.
func tireless(t broker.Trigger) broker.Trigger {
	t.Delivery.Retry = 1 << 30
	return t
}

// patient returns the shop with customers who never cancel, so that orders are undone only after a failure or a
// deadline.
func patient(b simulation.Broken) simulation.Broken {
	b.Patient = true
	return b
}

var brokenShops = []struct {
	name   string
	broken simulation.Broken
	faults []simulate.Kind // each finds it alone; nil: the default faults find it
	always bool            // it is found without faults too
}{
	{"drops the inbox", forgetting("_inbox", nil),
		[]simulate.Kind{
			simulate.Duplicate,
			simulate.LoseAck,
			simulate.Twin,
			simulate.CrashAfterPublish,
			simulate.BrokerErrorAfter,
		}, false},
	{"drops the outbox", forgetting("_outbox", nil),
		[]simulate.Kind{
			simulate.CrashAfterCommit,
			simulate.BrokerError,
			simulate.StoreErrorAfter,
			simulate.BrokerErrorPart,
		}, false},
	{"publishes before it commits", committing(publishFirst),
		[]simulate.Kind{simulate.CrashBeforeCommit}, true}, // each event is published twice then
	{
		"forgets preconditions",
		committing(func(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
			return db.Commit(ctx, store.Batch{Mutations: b.Mutations})
		}),
		[]simulate.Kind{simulate.Twin},
		false,
	},
	{
		"ignores a lost race",
		committing(func(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
			err := db.Commit(ctx, b)
			if fault.Is(err, fault.Conflict) {
				return nil
			}
			return err
		}),
		[]simulate.Kind{simulate.Conflict},
		false,
	},
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
		return to.Publish(
			ctx,
			slices.DeleteFunc(
				slices.Clone(es),
				func(e ce.Event) bool { return e.Type() == events.InventoryRelease.Name() },
			)...)
	}), []simulate.Kind{simulate.RemoteSlow, simulate.Delay}, true},
	{
		"does not believe the broker's errors",
		publishing(func(ctx context.Context, to broker.Publisher, es []ce.Event) error {
			_ = to.Publish(ctx, es...)
			return nil
		}),
		[]simulate.Kind{simulate.BrokerError, simulate.BrokerErrorPart},
		false,
	},
	{"forgets stored responses", forgetting("_idempotency", nil),
		[]simulate.Kind{simulate.LoseAnswer, simulate.CrashAfterCommit, simulate.StoreErrorAfter}, false},
	{"forgets an undo that overtakes its command", forgettingVoids(), []simulate.Kind{simulate.Reorder}, false},
	{"forgets an undo that overtakes its command, while nobody cancels", patient(forgettingVoids()), nil, false},
	{"calls the bank without a key", simulation.Broken{Careless: true},
		[]simulate.Kind{simulate.RemoteErrorAfter}, false},
	{"declines what the bank holds when an answer was lost", simulation.Broken{Doubtful: true},
		[]simulate.Kind{simulate.RemoteErrorAfter, simulate.CrashBeforeCommit}, false},
	{
		"writes documents as its own version knows them",
		committing(func(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
			for i, m := range b.Mutations {
				b.Mutations[i].Data = stripped(m.Data)
			}
			return db.Commit(ctx, b)
		}),
		[]simulate.Kind{simulate.Deploy},
		false,
	},
	{"publishes what another instance is publishing", committing(longAgo), []simulate.Kind{simulate.Twin}, false},
	{"does not know the outbox entry of a message", committing(nameless), []simulate.Kind{simulate.Twin}, false},
	{"answers 503 for a change that is kept", refusingChanges(), []simulate.Kind{simulate.BrokerError}, false},
	{"acknowledges events whose own are not published", answering(func(r broker.Result) broker.Result {
		if strings.Contains(r.Message, "could not be published") {
			return broker.Result{Status: http.StatusOK}
		}
		return r
	}), []simulate.Kind{simulate.BrokerError}, false},
	// An outage of the bank is none of the events': their calls wait for it, see infra/outside.
	{"counts outages as attempts", simulation.Broken{Trigger: impatient}, []simulate.Kind{
		simulate.StoreOutage, simulate.BrokerOutage, simulate.FunctionOutage,
	}, false},
	{"never gives up an event that kills it", simulation.Broken{Trigger: tireless},
		[]simulate.Kind{simulate.Deadly}, false},
	{"forgets what it has quarantined", forgetting("_outbox", func(m store.Mutation) bool { return m.Version > 1 }),
		[]simulate.Kind{simulate.BadEntry}, false},
	{"writes bytes into JSON as they are", committing(intoJSON), []simulate.Kind{simulate.Stranger}, false},
	{"gives events of the archive the time of its own clock", byOwnClock(), []simulate.Kind{simulate.Skew}, false},
	{"does not store what is revoked", forgetting("_revoked", nil), nil, true},
	{"believes in memory that nothing is revoked", unrevoked(true), nil, true},
	{"checks before it commits and not when it does", unrevoked(false), []simulate.Kind{simulate.Slow}, true},
	{"does not store that a key is revoked", forgetting("_keys", func(m store.Mutation) bool {
		return bytes.Contains(m.Data, []byte(`"revoked":true`))
	}), nil, true},
	{"forgets which keys are refused with others", forgetting("_revoked", func(m store.Mutation) bool {
		return bytes.Contains(m.Data, []byte(`"keys":{"`))
	}), nil, true},
	{"checks a key before it commits and not when it does", unrevokedKeys(), []simulate.Kind{simulate.Slow}, true},
	{"does not record what staff does", forgetting("_audit", nil), nil, true},
	{"forgets everything in its next version", simulation.Broken{Change: amnesia},
		[]simulate.Kind{simulate.Deploy}, false},
}

// Each promise of the kit is needed: without it, faults of one kind alone break the shop, on a seed that passes
// without the faults.
func TestBroken(t *testing.T) {
	const within = 200
	for _, b := range brokenShops {
		kinds := b.faults
		if kinds == nil {
			kinds = []simulate.Kind{"all together"}
		}
		for _, kind := range kinds {
			t.Run(b.name+"/"+string(kind), func(t *testing.T) {
				sys := simulation.Shop(b.broken)
				if b.faults != nil {
					sys.Faults, sys.MaxFaults = []simulate.Kind{kind}, 40
				}
				if kind == simulate.Slow { // which matters only while another unit is under way
					sys.MaxFaults = 150
				}
				without := sys
				without.MaxFaults = -1
				byFaults := func(failed *simulate.Report) bool { return b.always || simulate.Run(without, failed.Seed).OK() }
				if search(t, simulate.Runner{System: sys, Seeds: within}, byFaults) == nil {
					t.Fatalf("%d seeds find no violation in a shop that %s", within, b.name)
				}
			})
		}
	}
}

// endless is a context whose deadline cannot be seen.
type endless struct{ context.Context }

func (endless) Deadline() (time.Time, bool) { return time.Time{}, false }

// A backlog of slow events is handled under all kinds of faults. Where batches do not stop in time, every event of it
// becomes a dead letter, without any fault.
func TestBacklog(t *testing.T) {
	const within = 50
	holds(t, simulate.Runner{System: simulation.Depot(nil), First: 1, Seeds: within})
	sys := simulation.Depot(func(_ string, next broker.Handler) broker.Handler {
		return func(ctx context.Context, batch []ce.Event) []broker.Result { return next(endless{ctx}, batch) }
	})
	sys.MaxFaults = -1
	begin := sys.Begin
	sys.Begin = func(sim *simulate.Simulation, r *rand.Rand) *simulate.Scenario {
		sc := begin(sim, r)
		sc.Trigger = impatient // a patient broker tries the events of a batch that took too long one by one
		return sc
	}
	for seed := uint64(1); seed <= within; seed++ {
		if r := simulate.Run(sys, seed); !r.OK() {
			t.Logf("seed %d: %s", seed, r.Violations[0].Text)
			return
		}
	}
	t.Errorf("%d seeds find no violation where batches do not stop in time", within)
}

// An archive with many units of work at once keeps every event in order, and its replays are complete, under all kinds
// of faults. Where units append to what a replay has sealed, or by their own clocks, that does not hold.
func TestLibrary(t *testing.T) {
	const within = 200
	holds(t, simulate.Runner{System: simulation.Library(simulation.Broken{}), First: 1, Seeds: within})
	for name, broken := range map[string]simulation.Broken{
		"appends to an archive that is sealed": committing(unsealed), "goes by its own clock": byOwnClock(),
	} {
		t.Run(name, func(t *testing.T) {
			sys := simulation.Library(broken)
			sys.Faults, sys.MaxFaults = []simulate.Kind{simulate.Slow, simulate.Skew}, 40
			if search(t, simulate.Runner{System: sys, Seeds: within}, nil) == nil {
				t.Errorf("%d seeds find no violation in a library that %s", within, name)
			}
		})
	}
}

// headed commits with an event that is appended the head of the archive too, as an archive does that counts its events.
func headed(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
	head := func(k store.Key) bool { return k.Collection == "heads" }
	at := slices.IndexFunc(b.Preconditions, func(p store.Precondition) bool { return head(p.Key) })
	if at < 0 || !slices.ContainsFunc(b.Mutations, simulation.Appends) ||
		slices.ContainsFunc(b.Mutations, func(m store.Mutation) bool { return head(m.Key) }) {
		return db.Commit(ctx, b)
	}
	read := b.Preconditions[at]
	docs, err := db.Get(ctx, read.Key)
	if err != nil {
		return err
	}
	write := store.Mutation{Key: read.Key, Version: max(read.Version, docs[0].Last) + 1, Data: docs[0].Data}
	if write.Data == nil {
		write.Data = []byte("{}")
	}
	b.Mutations = append(slices.Clone(b.Mutations), write)
	return db.Commit(ctx, b)
}

// Appends do not meet: without faults none loses a race, unless a replay seals the archive meanwhile. They meet where
// each writes the head.
func TestAppendsDoNotMeet(t *testing.T) {
	const (
		within = 200
		seals  = 2 // of a replay
		others = 4 // units of work at once
	)
	meet := func(broken simulation.Broken, seeds uint64) *simulate.Report {
		sys := simulation.Library(broken)
		sys.MaxFaults = -1
		for seed := uint64(1); seed <= seeds; seed++ {
			r := simulate.Run(sys, seed)
			if !r.OK() || r.Counts[simulation.Met] > seals*others*r.Counts["replays"] {
				return r
			}
		}
		return nil
	}
	if r := meet(simulation.Broken{}, 50); r != nil {
		t.Errorf("%d appends met at %d replays: %s", r.Counts[simulation.Met], r.Counts["replays"], r)
	}
	r := meet(committing(headed), within)
	if r == nil || !r.OK() {
		t.Fatalf("%d seeds do not find that all appends write one document: %v", within, r)
	}
	t.Logf("seed %d: %d appends met at %d replays", r.Seed, r.Counts[simulation.Met], r.Counts["replays"])
}

// Large timers that are due together fire on a store with a limit in bytes, and none fires that was cancelled, under
// all kinds of faults. That does not hold where units do not learn that the store takes less, and where a cancel that
// comes before its schedule is forgotten.
func TestStation(t *testing.T) {
	const within = 200
	holds(t, simulate.Runner{System: simulation.Station(simulation.Broken{}), First: 1, Seeds: 60})
	for name, broken := range map[string]simulation.Broken{
		"does not say that a unit is too large": committing(
			func(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
				err := db.Commit(ctx, b)
				if fault.Is(err, fault.TooLarge) {
					return fault.Wrap(err, fault.Unavailable, "the commit failed")
				}
				return err
			}),
		"forgets a cancel that overtakes its schedule": forgetting("cancelled", nil),
	} {
		t.Run(name, func(t *testing.T) {
			sys := simulation.Station(broken)
			sys.Faults, sys.MaxFaults = []simulate.Kind{simulate.Reorder, simulate.Delay}, 40
			if search(t, simulate.Runner{System: sys, Seeds: within}, nil) == nil {
				t.Errorf("%d seeds find no violation in a station that %s", within, name)
			}
		})
	}
}

// Entries that are never removed are found without faults, after simulated days.
func TestNeverForgets(t *testing.T) {
	gone := func(m store.Mutation) bool { return m.Data == nil }
	for _, c := range []struct{ collection, text string }{
		{"_inbox", "past its time: _inbox"}, {"_idempotency", "past its time: _idempotency"},
		{"_outbox", "publishes an event again"}, {"_revoked", "past its time: _revoked"},
	} {
		sys := simulation.Shop(forgetting(c.collection, gone))
		sys.MaxFaults, sys.Age = -1, 1
		if r := simulate.Run(sys, 3); r.OK() || !strings.Contains(r.Violations[0].Text, c.text) {
			t.Errorf("%s: got %s", c.collection, r)
		}
	}
}
