// Package function is the kit that business capabilities are made of: typed HTTP operations,
// event subscriptions, and the unit of work around each, so that every handler may run twice
// and its effects happen once.
//
// A handler only decides. It reads and writes collections, emits events and sets timers through
// its Tx, and all of that commits together or not at all. The kit then publishes the events and
// answers. What a crash leaves, by the place where it strikes:
//
//   - before the commit: nothing happened; the client retries, or the broker delivers again.
//   - after the commit, before the events are published: they wait in the outbox. The broker delivers
//     the message again, or the client repeats its Idempotency-Key, or the function wakes up, or
//     the clock sweeps; each of these publishes what is left.
//   - after that, before the answer: the events may be published twice; every receiver's inbox drops the second.
//
// An inbox remembers for three days. An event that comes again later than that is handled again.
//
// The pattern is the transactional outbox with an idempotent consumer (microservices.io), without
// a relay process, because nothing runs while a function is at zero.
package function

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// Env is what a host gives a function. Whatever is left out is something that
// fails clearly when it is used, or for Telemetry, Logger and Now the plain default.
type Env struct {
	Store     store.Opener         // opens the function's own database
	Publisher broker.Publisher     // takes what it emits
	Lookup    config.Lookup        // finds its configuration
	Tokens    *auth.Verifier       // checks bearer tokens; nil refuses every token
	Telemetry *telemetry.Telemetry // nil: none
	Logger    *slog.Logger         // nil: slog.Default
	Now       func() time.Time     // nil: time.Now
	NewID     func() string        // makes the ids of events and of what handlers create; nil: UUIDv7. Each must be new
}

// Config loads a function's own configuration: an envconfig struct whose tags
// hold the whole variable names. The error names every fault.
func Config[T any](env Env) (T, error) {
	lookup := env.Lookup
	if lookup == nil {
		lookup = config.Map(nil)
	}
	return config.Load[T]("", lookup)
}

// Configure loads the function's configuration as Config does, and declares what it reads: its variables are
// a part of the manifest.
func Configure[T any](f *Function) (T, error) {
	for _, v := range config.Variables[T]("") {
		f.settings = append(f.settings, Setting{Variable: v.Name, Description: v.Desc, Default: v.Default, Required: v.Required, Secret: v.Secret})
	}
	return Config[T](f.env)
}

// Function is one capability: what it serves, hears, says and stores. It is declared once,
// before Start; afterwards its methods may be called concurrently.
type Function struct {
	name       string
	env        Env
	schema     store.Schema
	routes     []Route
	mux        *http.ServeMux
	api        huma.API
	front      http.Handler
	hears      map[string]handler
	any        handler
	dead       handler
	tick       func(ctx context.Context, tx *Tx, now time.Time) error
	says       map[string]bool
	wakes      []string
	settings   []Setting
	prefetch   func(e event) []store.Key
	concurrent int
	pace       time.Duration

	opening sync.Mutex // one Start or Stop at a time
	db      atomic.Pointer[database]
	outbox  outbox
	settler broker.Settler // nil: what was published is durable
	waiters waiters
}

// database wraps the driver so that it fits an atomic pointer.
type database struct{ store.Driver }

// New begins the declaration of a function.
func New(name string, env Env) *Function {
	if env.Logger == nil {
		env.Logger = slog.Default()
	}
	if env.Now == nil {
		env.Now = time.Now
	}
	if env.NewID == nil {
		env.NewID = newID
	}
	if env.Store == nil {
		env.Store = func(context.Context, string, store.Schema) (store.Driver, error) {
			return nil, fault.New(fault.Internal, "function %s was given no store", name)
		}
	}
	if env.Publisher == nil {
		env.Publisher = unassigned(name)
	}
	settler, _ := env.Publisher.(broker.Settler)
	f := &Function{name: name, env: env, settler: settler, hears: map[string]handler{}, says: map[string]bool{}, concurrent: 1}
	f.serveWith(name)
	return f
}

type unassigned string

func (u unassigned) Publish(context.Context, ...event) error {
	return fault.New(fault.Internal, "function %s was given no broker", string(u))
}

// Name is the capability's name.
func (f *Function) Name() string { return f.name }

// Env is what the host gave the function.
func (f *Function) Env() Env { return f.env }

// Source is the CloudEvents source of what the function says.
func (f *Function) Source() string { return "/functions/" + f.name }

// Concurrent makes events come one at a time to up to n handlers at once, each in a unit of work of
// its own: for handlers that call something slow. Without it many events share one unit, in order,
// which costs one commit for all of them.
func (f *Function) Concurrent(n int) { f.concurrent = n }

// Pace makes batches of events begin at least d apart while there are many: fewer commits, for a function that nobody
// waits for. A lone event is handled at once. It is a hint, which not every broker takes.
func (f *Function) Pace(d time.Duration) { f.pace = d }

// Front makes h the whole HTTP side of the function: no tokens are checked and no unit of work is
// begun for it. It is for the gateway, which does its own checks.
func Front(f *Function, h http.Handler) { f.front = h }

// Collection declares a collection of the function's own database.
func Collection[T any](f *Function, name string, options ...store.Option) *store.Collection[T] {
	c := store.NewCollection[T](name, options...)
	f.schema = append(f.schema, c.Spec())
	return c
}

// Says declares what the function emits; emitting anything else is an error.
func Says(f *Function, types ...*events.Info) {
	for _, t := range types {
		f.says[t.Name] = true
	}
}

// Wakes names events that are not handled but tell that work for the function is on its way. Where functions are started
// by what is delivered to them, its start then overlaps with what comes before it. Nothing depends on it.
func Wakes(f *Function, types ...*events.Info) {
	for _, t := range types {
		f.wakes = append(f.wakes, t.Name)
	}
}

// The kit's own collections.
const (
	inboxName  = "_inbox"
	outboxName = "_outbox"
	keysName   = "_idempotency"
)

// stateful reports whether the function needs a database.
func (f *Function) stateful() bool {
	return len(f.schema) > 0 || len(f.hears) > 0 || f.any != nil || f.dead != nil || len(f.says) > 0
}

// Schema is everything that the function stores, the kit's own collections included.
func (f *Function) Schema() store.Schema {
	if !f.stateful() {
		return nil
	}
	return append(append(store.Schema(nil), f.schema...),
		store.Spec{Name: inboxName}, store.Spec{Name: outboxName, Large: true},
		store.Spec{Name: keysName, Indexes: []store.Index{store.On("at")}})
}

// Start opens the database and publishes what an earlier instance left in its outbox. A host calls it before the
// first request; calling it again does nothing. When it fails the function is as it was before.
func (f *Function) Start(ctx context.Context) error {
	f.opening.Lock()
	defer f.opening.Unlock()
	if !f.stateful() || f.db.Load() != nil {
		return nil
	}
	db, err := f.env.Store(ctx, f.name, f.Schema())
	if err != nil {
		return err
	}
	f.outbox.left.give() // by whoever was here before
	f.db.Store(&database{db})
	if err := f.publishLeft(ctx); err != nil {
		// They are safe where they are, and the next unit of work tries again.
		f.env.Logger.WarnContext(ctx, "the outbox could not be published yet", "function", f.name, "error", err)
	}
	return nil
}

// Stop writes down what was published and closes the database. The host sees to it that nothing runs any more.
func (f *Function) Stop(ctx context.Context) error {
	f.opening.Lock()
	defer f.opening.Unlock()
	db := f.db.Swap(nil)
	if db == nil {
		return nil
	}
	if err := f.forgetPublished(ctx, db); err != nil {
		f.env.Logger.WarnContext(ctx, "published events stay in the outbox and will be published twice", "function", f.name, "error", err)
	}
	return db.Close()
}

// forgetPublished takes everything out of the outbox that was published.
func (f *Function) forgetPublished(ctx context.Context, db store.Driver) error {
	if f.outbox.empty() {
		return nil
	}
	if err := f.settle(ctx); err != nil {
		return err
	}
	for gone := f.outbox.take(f.settled()); len(gone) > 0; gone = f.outbox.take(f.settled()) {
		if err := remove(ctx, db, gone); err != nil {
			return err
		}
	}
	return nil
}

func (f *Function) open() (store.Driver, error) {
	if db := f.db.Load(); db != nil {
		return db.Driver, nil
	}
	return nil, fault.New(fault.Unavailable, "function %s is not running", f.name)
}

// newID is a UUIDv7 (RFC 9562): unique, and sorted by the time it was made.
func newID() string { return uuid.Must(uuid.NewV7()).String() }
