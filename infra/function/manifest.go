package function

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/broker"
)

// Manifest is everything that a function declares: what triggers, network policies,
// routes, OpenAPI, AsyncAPI and Terraform's input are derived from.
type Manifest struct {
	Name        string       `json:"name"`
	Routes      []Route      `json:"routes,omitempty"`
	Hears       []string     `json:"hears,omitempty"` // event types, sorted; "*" is everything
	Wakes       []string     `json:"wakes,omitempty"` // event types that only start it, sorted
	Says        []string     `json:"says,omitempty"`
	Collections []Stored     `json:"collections,omitempty"`
	Trigger     *TriggerSpec `json:"trigger,omitempty"`
	Settings    []Setting    `json:"settings,omitempty"`
	Ticks       bool         `json:"ticks,omitempty"`        // is told when the host's clock ticks
	DeadLetters bool         `json:"dead_letters,omitempty"` // takes the dead letters of every trigger
	Front       bool         `json:"front,omitempty"`        // serves the outside
}

// Route is one HTTP operation.
type Route struct {
	Method  string   `json:"method"`
	Path    string   `json:"path"`
	Summary string   `json:"summary,omitempty"`
	Access  string   `json:"access"` // public, authenticated or roles
	Roles   []string `json:"roles,omitempty"`
	MaxBody int64    `json:"max_body,omitempty"` // bytes

	op Operation
}

// Safe reports whether the operation only reads (RFC 9110, section 9.2.1).
func (r Route) Safe() bool { return safe(r.Method) }

func routeOf(op Operation) Route {
	r := Route{Method: op.Method, Path: op.Path, Summary: op.Summary, Access: "authenticated", op: op}
	if op.MaxBody != DefaultMaxBody {
		r.MaxBody = op.MaxBody
	}
	switch {
	case op.Access.public:
		r.Access = "public"
	case len(op.Access.roles) > 0:
		r.Access, r.Roles = "roles", op.Access.roles
	}
	return r
}

// Setting is a variable that configures the function.
type Setting struct {
	Variable    string `json:"variable"`
	Description string `json:"description,omitempty"`
	Default     string `json:"default,omitempty"`
	Required    bool   `json:"required,omitempty"`
	Secret      bool   `json:"secret,omitempty"`
}

// Stored is one collection of the function's database.
type Stored struct {
	Name    string     `json:"name"`
	Indexes [][]string `json:"indexes,omitempty"`
}

// TriggerSpec is the function's durable subscription.
type TriggerSpec struct {
	Filters     []broker.Filter `json:"filters,omitempty"`
	Batch       int             `json:"batch"`
	Concurrency int             `json:"concurrency"`
	Retry       int             `json:"retry"`
	Backoff     string          `json:"backoff"`
	Delay       string          `json:"delay"`
	Timeout     string          `json:"timeout"`
}

// Manifest says what the function declares. It needs no Start.
func (f *Function) Manifest() Manifest {
	m := Manifest{Name: f.name, Routes: slices.Clone(f.routes), Says: sorted(f.says), Settings: f.settings, Ticks: f.tick != nil, DeadLetters: f.dead != nil, Front: f.front != nil}
	for _, c := range f.Schema() {
		s := Stored{Name: c.Name}
		for _, i := range c.Indexes {
			s.Indexes = append(s.Indexes, i.Fields)
		}
		m.Collections = append(m.Collections, s)
	}
	if !f.subscribed() {
		return m
	}
	m.Hears, m.Wakes = f.heard(), slices.Sorted(slices.Values(f.wakes))
	t := f.trigger(slices.Concat(m.Hears, m.Wakes))
	m.Trigger = &TriggerSpec{Filters: t.Filters, Batch: t.Batch, Concurrency: t.Concurrency, Retry: t.Delivery.Retry,
		Backoff: string(t.Delivery.BackoffPolicy), Delay: t.Delivery.BackoffDelay.String(), Timeout: t.Delivery.Timeout.String()}
	return m
}

// Hash names the declaration: 16 hexadecimal digits of the SHA-256 of its JSON. What was deployed with one manifest and runs an
// image of another is found by it.
func (m Manifest) Hash() string {
	data, err := json.Marshal(m)
	if err != nil {
		panic(err) // it is strings, numbers and lists of them
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

func sorted(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }

// subscribed reports whether the function hears events at all; one that emits hears the sweep.
func (f *Function) subscribed() bool { return f.any != nil || len(f.hears) > 0 || len(f.says) > 0 }

func (f *Function) heard() []string {
	if f.any != nil {
		return []string{"*"}
	}
	types := slices.Collect(maps.Keys(f.hears))
	if !slices.Contains(types, events.ClockSwept.Name()) {
		types = append(types, events.ClockSwept.Name())
	}
	slices.Sort(types)
	return types
}

// maxBatch bounds how many events share a unit of work.
const maxBatch = 128

// Trigger is the function's durable subscription, named after it. The host adds where dead letters go.
func (f *Function) Trigger() broker.Trigger { return f.trigger(f.heard()) }

func (f *Function) trigger(types []string) broker.Trigger {
	t := broker.Trigger{Name: f.name, Subscriber: f.Source(), Delivery: broker.DefaultDelivery, Batch: maxBatch, Concurrency: 1, Pace: f.pace}
	if f.concurrent > 1 {
		t.Batch, t.Concurrency = 1, f.concurrent
	}
	if f.any == nil {
		any := broker.Filter{}
		for _, name := range types {
			any.Any = append(any.Any, broker.Filter{Exact: map[string]string{"type": name}})
		}
		t.Filters = append(t.Filters, any)
	}
	// A replayed event is for the function it is addressed to, and for nobody else.
	toAll := broker.Filter{Not: &broker.Filter{CESQL: "EXISTS " + ReplayTo}}
	toMe := broker.Filter{Exact: map[string]string{ReplayTo: f.name}}
	t.Filters = append(t.Filters, broker.Filter{Any: []broker.Filter{toMe, toAll}})
	return t
}
