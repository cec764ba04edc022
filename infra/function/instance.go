package function

import (
	"context"
	"net/http"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/host"
	"github.com/ebb-dev/ebb/infra/httprequest"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/problem"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// instance is the function as hosts run it.
type instance struct{ *Function }

var _ host.Instance = instance{}

// Instance returns the function as hosts run it. Every call returns the same instance.
func (f *Function) Instance() host.Instance { return instance{f} }

// Declaration implements host.Instance.
func (i instance) Declaration() *manifest.Declaration { return i.declaration() }

// DeclareSchedule adds a recurring schedule to the manifest, for package cron. It is called while the function is
// declared.
func (i instance) DeclareSchedule(s manifest.Schedule) { i.schedules = append(i.schedules, s) }

// DeclareCall adds an outside call to the manifest, for package outside. It is called while the function is declared.
func (i instance) DeclareCall(c manifest.Call) { i.calls = append(i.calls, c) }

// DeclareService adds an RPC service to the manifest, for package rpc. It is called while the function is declared.
func (i instance) DeclareService(s manifest.Service) { i.services = append(i.services, s) }

// DeclarePersonal notes that the function stores encrypted personal data, for packages journal and outside. It is
// called while the function is declared.
func (i instance) DeclarePersonal() { i.storesPersonal = true }

// SealStored has the documents of a collection rewritten in the background whose personal fields were stored before the
// fields were personal, for package journal. The fields are a text that names them. It is called while the function is
// declared.
func (i instance) SealStored(
	collection, fields string, rewrite func(ctx context.Context, tx *store.Tx, id string) (changed bool, err error),
) {
	if i.sealing == nil {
		i.sealing = map[string]sealing{}
	}
	i.sealing[collection] = sealing{fields, rewrite}
}

// startStopper is a handler that does something while the function runs.
type startStopper interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
}

// Start implements host.Instance.
func (i instance) Start(ctx context.Context) error {
	f := i.Function
	f.opening.Lock()
	defer f.opening.Unlock()
	if h, ok := f.http.(startStopper); ok {
		return h.Start(ctx)
	}
	if !f.stateful() || f.db.Load() != nil {
		return nil
	}
	if err := f.loadPersonalKeys(); err != nil {
		return err
	}
	db, err := f.env.Store(ctx, f.name, f.databaseSchema())
	if err != nil {
		return err
	}
	f.db.Store(&database{db})
	_ = f.relayAll(ctx, false) // what is left is reported, and a unit of work or a sweep tries again
	return nil
}

// Stop implements host.Instance.
func (i instance) Stop(ctx context.Context) error {
	f := i.Function
	f.opening.Lock()
	defer f.opening.Unlock()
	if h, ok := f.http.(startStopper); ok {
		return h.Stop(ctx)
	}
	db := f.db.Swap(nil)
	if db == nil {
		return nil
	}
	if err := f.removePublished(ctx, db); err != nil {
		f.env.Logger.WarnContext(ctx, "published events stay in the outbox and will be published twice",
			"function", f.name, "error", err)
	}
	return db.Close()
}

// ServeHTTP implements host.Instance.
func (i instance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if i.http != nil && (len(i.routes) == 0 || r.URL.Path != settingsPath+i.name) {
		i.http.ServeHTTP(w, r)
		return
	}
	if err := httprequest.Check(r); err != nil {
		problem.Write(w, r, err)
		return
	}
	i.mux.ServeHTTP(w, r)
}

// Receive implements host.Instance. The events of a batch share one unit of work: a handler reads what the one before
// it wrote, and one commit makes all of it durable. An event that fails leaves nothing of its own, and later events of
// its partition key in the batch are skipped. A commit that the store refuses for good is tried again in halves, so
// that only the event that is to blame fails. When half of the time until the deadline of ctx has passed, the events
// that were handled are committed and the others are skipped, so that a backlog of slow events gets on.
func (i instance) Receive(ctx context.Context, events []ce.Event) []broker.Result {
	ctx = telemetry.WithFunction(ctx, i.name)
	if i.receiver != nil {
		return i.handOver(ctx, events)
	}
	return i.receive(ctx, events, map[string]bool{})
}

// Tick implements host.Instance. It fails when the work is done and its events could not be published; the next tick
// publishes them.
func (i instance) Tick(ctx context.Context, now time.Time) (more bool, err error) {
	f := i.Function
	if f.tick == nil {
		return false, fault.New(fault.Invalid, "function %s declares no tick", f.name)
	}
	ctx = telemetry.WithFunction(ctx, f.name)
	unpublished, err := f.update(ctx, func(ctx context.Context, tx *Tx) error {
		err := f.tick(ctx, tx, now)
		more = tx.tickAgain
		return err
	})
	if err == nil { // no caller waits for a tick, so it also publishes what earlier units have left
		err = unpublished
	}
	if err == nil {
		err = f.relayLeft(ctx)
	}
	return more && err == nil, err
}

// driver returns the open database; fault.Unavailable before Start and after Stop.
func (f *Function) driver() (store.Driver, error) {
	if db := f.db.Load(); db != nil {
		return db.Driver, nil
	}
	return nil, fault.New(fault.Unavailable, "function %s is not running", f.name)
}
