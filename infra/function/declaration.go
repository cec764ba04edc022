package function

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/store"
)

// The kit's own collections.
const (
	inboxName       = "_inbox"
	outboxName      = "_outbox"
	idempotencyName = "_idempotency"
	revokedName     = "_revoked"
	keysName        = "_keys"
	auditName       = "_audit"
)

// stateful reports whether the function needs a database: for documents of its own, or for the unit of work of an
// event, of a tick or of an operation that changes something.
func (f *Function) stateful() bool {
	return len(f.schema) > 0 || f.namesEvents() || f.deadLetter != nil || f.tick != nil ||
		slices.ContainsFunc(f.routes, func(r route) bool { return !r.Safe() })
}

// databaseSchema returns everything that the function stores, with the kit's own collections.
func (f *Function) databaseSchema() store.Schema {
	if !f.stateful() {
		return nil
	}
	responses := expiring(idempotencyName, store.Expiry{Field: "at", After: responseRetention, Final: true})
	responses.Large = true
	schema := append(append(store.Schema(nil), f.schema...),
		expiring(inboxName, store.Expiry{Field: "expires", Final: true}),
		store.Spec{Name: outboxName, Large: true, SingleUse: true}, responses)
	if f.hasPersonKeys() {
		schema = append(schema, personKeys.Spec())
	}
	if len(f.migrating()) > 0 {
		schema = append(schema, migrations.Spec())
	}
	if f.checksRevocations() || f.revokes() || f.keepsKeys() {
		schema = append(schema, expiring(revokedName, store.Expiry{Field: "expires"}))
	}
	if f.keepsKeys() {
		schema = append(schema, expiring(keysName, store.Expiry{Field: "expires"}))
	}
	if f.audits() {
		schema = append(schema, acts.Spec())
	}
	return schema
}

// expiring returns a collection of the kit whose documents expire.
func expiring(name string, e store.Expiry) store.Spec {
	return store.Spec{Name: name, Indexes: []store.Index{store.On(e.Field)}, Expiry: &e, SingleUse: e.Final}
}

func (f *Function) declaration() *manifest.Declaration {
	d := &manifest.Declaration{
		Function: f.manifest(), Schema: f.databaseSchema(), Types: f.types(),
		OpenAPI: f.describeAPI, CheckSettings: f.checkSettings,
	}
	if f.subscribed() {
		d.Subscription = f.trigger(f.consumes())
	}
	return d
}

func (f *Function) checkSettings(lookup config.Lookup) error {
	var errs []error
	for _, check := range f.settingsChecks {
		errs = append(errs, check(lookup))
	}
	return config.Join(append(errs, f.checkPersonalSettings(lookup))...)
}

// emittedByKit returns the types that the kit emits in the name of the function, besides timers.
func (f *Function) emittedByKit() (all []*event.Info) {
	if f.hasPersonKeys() {
		all = append(all, event.DataErased.Info())
	}
	if f.keepsKeys() {
		all = append(all, event.APIKeyUsed.Info())
	}
	if f.audits() {
		all = append(all, event.ActRecorded.Info())
	}
	return all
}

// emitted returns the names of the types that the function emits, sorted, with those of the kit.
func (f *Function) emitted() []string {
	all := maps.Clone(f.emits)
	for _, info := range f.emittedByKit() {
		all[info.Name] = info
	}
	return sortedKeys(all)
}

func (f *Function) describeAPI() ([]byte, error) {
	if f.openAPI != nil {
		return f.openAPI, nil
	}
	doc := f.api.OpenAPI()
	schemas := doc.Components.Schemas.Map() // Huma adds its own errors, which are never sent
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	return json.Marshal(doc)
}

// router is a handler that serves these routes behind the gateway.
type router interface{ Routes() []manifest.Route }

func (f *Function) manifest() manifest.Function {
	m := manifest.Function{
		Name: f.name, Emits: f.emitted(), Settings: append(slices.Clip(f.settings), f.personalSettings()...),
		Schedules: f.schedules, Calls: f.calls, Ticks: f.tick != nil, DeadLetters: f.deadLetter != nil,
		Services: f.services,
	}
	if h, behind := f.http.(router); behind {
		m.Routes = h.Routes()
	} else {
		m.Gateway = f.http != nil
	}
	for _, r := range f.routes {
		m.Routes = append(m.Routes, r.Route)
	}
	for _, c := range f.databaseSchema() {
		s := manifest.Collection{Name: c.Name, Revision: len(c.Steps)}
		for _, i := range c.Indexes {
			s.Indexes = append(s.Indexes, i.Fields)
		}
		m.Collections = append(m.Collections, s)
	}
	if !f.subscribed() {
		return m
	}
	m.Consumes, m.Prewarm = f.consumes(), sortedKeys(f.prewarm)
	t := f.trigger(slices.Concat(m.Consumes, m.Prewarm))
	m.Trigger = &manifest.Trigger{
		Filters: t.Filters, Batch: t.Batch, Concurrency: t.Concurrency, Retry: t.Delivery.Retry,
		Backoff: string(t.Delivery.BackoffPolicy), Delay: t.Delivery.BackoffDelay.String(),
		Timeout: t.Delivery.Timeout.String(), Patience: t.Delivery.Patience.String(), Rate: t.Rate,
	}
	return m
}

// types returns every event type that the function names, sorted by name.
func (f *Function) types() []*event.Info {
	all := event.Catalogue{}
	if f.receiver != nil {
		for _, t := range f.receiver.Consumes() {
			all[t.Info().Name] = t.Info()
		}
	} else if f.subscribed() {
		all[event.ClockSwept.Name()] = event.ClockSwept.Info()
	}
	for _, info := range append(f.consumedByKit(), f.emittedByKit()...) {
		all[info.Name] = info
	}
	for name, s := range f.subscriptions {
		all[name] = s.info
	}
	maps.Copy(all, f.emits)
	maps.Copy(all, f.prewarm)
	return all.All()
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.SortedFunc(maps.Keys(m), strings.Compare)
}

// subscribed reports whether the function consumes events. One that emits consumes the clock's sweep.
func (f *Function) subscribed() bool {
	return f.namesEvents() || len(f.consumedByKit()) > 0 || len(f.emittedByKit()) > 0 || f.receiver != nil
}

// namesEvents reports whether the function itself declares that it consumes or emits events.
func (f *Function) namesEvents() bool {
	return f.any != nil || len(f.subscriptions) > 0 || len(f.emits) > 0
}

func (f *Function) consumes() []string {
	if f.any != nil {
		return []string{"*"}
	}
	if f.receiver != nil {
		var types []string
		for _, t := range f.receiver.Consumes() {
			types = append(types, t.Info().Name)
		}
		slices.Sort(types)
		return slices.Compact(types)
	}
	types := append(slices.Collect(maps.Keys(f.subscriptions)), event.ClockSwept.Name())
	for _, info := range f.consumedByKit() {
		types = append(types, info.Name)
	}
	slices.Sort(types)
	return slices.Compact(types)
}

// filterOn returns the filter for a type. The runs of schedules are for the function that has declared them, and the
// timers of outside calls for the function that has set them.
func (f *Function) filterOn(name string) broker.Filter {
	switch name {
	case event.ClockFired.Name():
		return broker.Filter{All: []broker.Filter{
			{Exact: map[string]string{"type": name}}, {Prefix: map[string]string{"subject": f.name + "/"}},
		}}
	case event.CallDue.Name():
		return broker.Filter{Exact: map[string]string{"type": name, "source": f.Source()}}
	}
	return broker.Filter{Exact: map[string]string{"type": name}}
}

// maxBatch is how many events share a unit of work at most.
const maxBatch = 128

// trigger returns a durable subscription to the types, which has the function's name. The host adds where dead letters
// go.
func (f *Function) trigger(types []string) broker.Trigger {
	t := broker.Trigger{
		Name: f.name, Subscriber: f.Source(), Delivery: broker.DefaultDelivery, Batch: maxBatch, Concurrency: 1,
	}
	if f.any == nil {
		oneOf := broker.Filter{}
		for _, name := range types {
			oneOf.Any = append(oneOf.Any, f.filterOn(name))
		}
		t.Filters = append(t.Filters, oneOf)
	}
	// A replayed event is for the one function that it is addressed to.
	toAll := broker.Filter{Not: &broker.Filter{CESQL: "EXISTS " + event.ReplayTo}}
	toMe := broker.Filter{Exact: map[string]string{event.ReplayTo: f.name}}
	t.Filters = append(t.Filters, broker.Filter{Any: []broker.Filter{toMe, toAll}})
	return f.delivery.Apply(t)
}
