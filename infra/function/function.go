package function

import (
	"context"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/danielgtaylor/huma/v2"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/personal"
	"github.com/ebb-dev/ebb/infra/store"
)

// Function is what one function serves, consumes, emits and stores. It is declared by one goroutine, in the function's
// constructor; afterwards its methods may be called concurrently.
type Function struct {
	name string
	env  Env

	// What is declared.
	schema         store.Schema
	routes         []route
	mux            *http.ServeMux
	api            huma.API
	http           http.Handler // in place of operations
	receiver       receiver     // in place of subscriptions: http, where it consumes events
	openAPI        []byte       // of http
	subscriptions  map[string]subscription
	any            handler
	deadLetter     handler
	tick           func(ctx context.Context, tx *Tx, now time.Time) error
	emits          map[string]*event.Info
	prewarm        map[string]*event.Info
	settings       []manifest.Setting
	settingsChecks []func(config.Lookup) error
	schedules      []manifest.Schedule
	calls          []manifest.Call
	services       []manifest.Service
	storesPersonal bool
	sealing        map[string]sealing // by collection
	prefetch       func(e ce.Event) []store.Key
	delivery       broker.Tuning
	followUp       *followUp // nil: none
	parts          map[reflect.Type]any
	watchful       atomic.Int64 // see presume
	fits           fits
	tidies         fits // what units remove beside their own work

	// What an instance has.
	opening  sync.Mutex // one Start or Stop at a time
	db       atomic.Pointer[database]
	outbox   outbox
	pruner   pruner
	backfill backfill

	personalKeys personal.Keys // of the system
	keyCache     keyCache
	flusher      broker.Flusher // nil: what was published is durable
	waiters      waiters
	warm         atomic.Bool // has had a request or an event
	inFlight     inFlight

	typesOnce sync.Once
	allTypes  event.Catalogue // of the system; see systemTypes
}

// route holds an operation in the form of its declaration and in that of the manifest.
type route struct {
	manifest.Route
	op Operation
}

// database wraps the driver so that it fits an atomic pointer.
type database struct{ store.Driver }

// New begins the declaration of a function.
func New(name string, env Env) *Function {
	f := &Function{
		name: name, env: env.withDefaults(name),
		subscriptions: map[string]subscription{}, emits: map[string]*event.Info{}, prewarm: map[string]*event.Info{},
		outbox: outbox{active: map[string]entryState{}, left: map[string]leftEntry{}},
	}
	if f.env.Settings == nil {
		f.env.Settings = f.declaredSettings
	}
	f.flusher, _ = f.env.Publisher.(broker.Flusher)
	f.newAPI()
	return f
}

// Name returns the function's name.
func (f *Function) Name() string { return f.name }

// Env returns what the host gave the function, with defaults in place of what it left out.
func (f *Function) Env() Env { return f.env }

// Source returns the CloudEvents source of the events that the function emits.
func (f *Function) Source() string { return "/functions/" + f.name }

// Deliver declares how events are delivered to the function, where the defaults do not fit: attempts, timeout, batch,
// concurrency and rate. An environment may change it again, with EBB_DELIVERY. With a concurrency each event has a unit
// of work of its own, for handlers that call something slow; otherwise many events share one unit, in order, which
// costs one commit for all of them. A MinBatchInterval makes fewer commits, for a function that no caller waits for.
// Where the platform delivers, as on Knative, it takes what it knows: no rate, no patience, no interval.
func Deliver(f *Function, t broker.Tuning) { f.delivery = t }

// Handler makes h the whole HTTP side of the function: no request is authenticated and no unit of work begun for it. It
// is for gateways and for pages, which do their own checks. openAPI describes what h serves; nil: nothing is described.
// When h has the methods Start and Stop of host.Instance, they are called with those of the function. The function is a
// gateway unless h has the method Routes() []manifest.Route: then the gateway sends it the requests of these, and the
// function itself serves its settings to staff. When h has the methods
//
//	Consumes() []event.Typed
//	Receive(ctx context.Context, events []ce.Event) []broker.Result
//
// the function consumes the events of these types, and h gets them as they come, without a unit of work and an inbox:
// an event may come twice, and in any order.
func Handler(f *Function, h http.Handler, openAPI []byte) {
	f.http, f.openAPI = h, openAPI
	if r, ok := h.(receiver); ok && len(r.Consumes()) > 0 {
		f.receiver = r
	}
	if _, behind := h.(router); behind {
		f.serveSettings()
	}
}

// receiver is a handler that consumes events by itself.
type receiver interface {
	Consumes() []event.Typed
	Receive(ctx context.Context, events []ce.Event) []broker.Result
}

// Collection declares a collection of the function's own database. When the function has several and emits facts, the
// one whose documents the facts are about is declared with store.Entity, so that the facts have a sequence.
func Collection[T any](f *Function, name string, options ...store.Option) *store.Collection[T] {
	c := store.NewCollection[T](name, options...)
	f.schema = append(f.schema, c.Spec())
	if c.Spec().Admin != nil {
		f.serveDocuments(c.Spec())
	}
	return c
}

// Part returns the function's one value of the type T, which is zero at first. A package that adds declarations to
// functions has there what it knows of those that it has added to this one. Authors of functions have no use for it.
func Part[T any](f *Function) *T {
	if f.parts == nil {
		f.parts = map[reflect.Type]any{}
	}
	part, ok := f.parts[reflect.TypeFor[T]()].(*T)
	if !ok {
		part = new(T)
		f.parts[reflect.TypeFor[T]()] = part
	}
	return part
}

// Emits declares the event types that the function emits; emitting another type is an error.
func Emits(f *Function, types ...event.Typed) {
	if len(f.emits) == 0 && len(types) > 0 {
		f.serveOutbox()
	}
	for _, t := range types {
		checkPlaceholders(t.Info())
		f.emits[t.Info().Name] = t.Info()
	}
}

// Prewarm names event types that the function does not handle but that tell that work for it is coming. Where functions
// are started by a delivery, its start then overlaps with the steps before. Nothing depends on it.
func Prewarm(f *Function, types ...event.Typed) {
	for _, t := range types {
		f.prewarm[t.Info().Name] = t.Info()
	}
}
