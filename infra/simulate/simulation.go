package simulate

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/ebb-dev/ebb/infra/manifest"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// epoch is when a run begins unless its system has another Epoch.
var epoch = time.Date(2026, 1, 1, 9, 0, 0, 0, time.UTC)

// Simulation is one run of a System: its functions, broker, clients and clock. It must only be used from the goroutine
// that runs it, which calls the scenario's functions.
type Simulation struct {
	system   manifest.System // what every function declares
	sys      System
	seed     uint64
	scenario *Scenario
	rng      *rand.Rand // for what happens outside of functions
	queue    eventQueue
	now      time.Duration // since System.Epoch
	start    time.Duration // when the setup was done

	tasks   []*task
	pool    []*task // idle
	cur     *task
	running int
	over    bool // the run has ended: tasks unwind
	closing bool // ticks have ended

	supervisors []*supervisor
	byName      map[string]*supervisor
	opener      store.Opener
	open        int // deliveries that were neither handled nor dead-lettered
	clients     int // requests that wait for a final answer
	published   []ce.Event
	poisonous   map[string]*supervisor // by id: what a fault meant it for
	deadly      map[string]*supervisor // by id: whose processes it kills
	poisoned    map[poisoned]bool      // whether it was dead-lettered
	dead        []deadLetter

	waits      waits
	ledger     ledger
	remote     remoteCalls
	violations []Violation
	counts     map[string]int
	injections []Fault
	digest     uint64
	tracing    bool
	trace      []string
	names      map[string]string
	events     int
	deliveries int
	instances  int
}

// deadLetter is an event that was dead-lettered and is not poisonous.
type deadLetter struct {
	function, text string
	e              ce.Event
}

// Violation is a broken promise. Class is the same for the same promise, whatever the ids.
type Violation struct{ Class, Text string }

// The classes of violations that callers of Run tell apart.
const (
	NotMade    = "the system cannot be made: %v" // a function or its store cannot be opened: there was no run
	DeadLetter = "a dead letter: %s"
)

// Now returns the simulated time; the clock of a function may differ.
func (sim *Simulation) Now() time.Time { return sim.sys.Epoch.Add(sim.now) }

// Seed returns the seed of the run.
func (sim *Simulation) Seed() uint64 { return sim.seed }

// Count adds n to a figure of the report, such as "orders".
func (sim *Simulation) Count(what string, n int) { sim.counts[what] += n }

// Violated reports a broken promise. The format alone names the promise: put ids into args.
func (sim *Simulation) Violated(format string, args ...any) {
	v := Violation{format, fmt.Sprintf(format, args...)}
	if sim.tracing {
		sim.tracef("VIOLATED: %s", v.Text)
	}
	if len(sim.violations) < 50 {
		sim.violations = append(sim.violations, v)
	}
}

// After calls do after d. The scheduler calls it, so do must not wait: use Send, not Call.
func (sim *Simulation) After(d time.Duration, do func()) { sim.after(d, do) }

// Sleep suspends the handler that runs for d of simulated time, while others go on: for doubles of slow services.
func (sim *Simulation) Sleep(d time.Duration) { sim.sleep(d) }

func (sim *Simulation) after(d time.Duration, do func()) { sim.queue.put(sim.now+max(d, 0), do) }

// run processes the event queue until done reports true or the queue is empty.
func (sim *Simulation) run(done func() bool) {
	for !sim.over && !done() && len(sim.queue.items) > 0 {
		e := sim.queue.take()
		sim.now = max(sim.now, e.at)
		e.do()
	}
}

// runFor processes the events of the next d.
func (sim *Simulation) runFor(d time.Duration) {
	over := false
	sim.after(d, func() { over = true })
	sim.run(func() bool { return over })
}

// idle reports whether no task runs and no delivery or request waits for an attempt.
func (sim *Simulation) idle() bool { return sim.running == 0 && sim.open == 0 && sim.clients == 0 }

// Rest lets time pass until the system is idle and Scenario.Settled holds, and reports whether that came within the
// limit. It is for Setup and Check.
func (sim *Simulation) Rest(limit time.Duration) bool {
	end := sim.now + limit
	looked := time.Duration(-1)
	settled := false
	sim.run(func() bool {
		if sim.now >= end {
			return true
		}
		if !sim.idle() || sim.now < looked+sim.sys.Tick {
			return false
		}
		looked = sim.now
		settled = sim.scenario.Settled == nil || sim.scenario.Settled(sim)
		return settled
	})
	return settled
}

// Documents returns the documents of a function's collection in the order of their ids, read from its database without
// faults. It returns nil for an unknown function or collection.
func (sim *Simulation) Documents(function, collection string) []store.Document {
	s := sim.byName[function]
	if s == nil {
		return nil
	}
	return all(s.schema, sim.opener, function, collection)
}

// Put writes a document of a function's collection into its database, without faults, as its first version or a later
// one. The error is that of the store, or tells that the function or the collection is unknown. It is for Setup.
func (sim *Simulation) Put(function, collection, id string, version int64, data json.RawMessage) error {
	s := sim.byName[function]
	if s == nil {
		return fmt.Errorf("unknown function %q", function)
	}
	if _, known := s.schema.Spec(collection); !known {
		return fmt.Errorf("function %s has no collection %q", function, collection)
	}
	ctx := context.Background()
	db, err := sim.opener(ctx, function, s.schema)
	if err != nil {
		return err
	}
	m := store.Mutation{Key: store.Key{Collection: collection, ID: id}, Version: max(version, 1), Data: data}
	return db.Commit(ctx, store.Batch{Mutations: []store.Mutation{m}})
}

// Collections returns the names of the collections of a function, the kit's own included.
func (sim *Simulation) Collections(function string) (names []string) {
	if s := sim.byName[function]; s != nil {
		for _, spec := range s.schema {
			names = append(names, spec.Name)
		}
	}
	return names
}

// Published returns every event that the broker accepted, duplicates by a publisher included, in the order of
// acceptance. The caller must not change them.
func (sim *Simulation) Published() []ce.Event { return sim.published }

// mix adds values to the digest of the run.
func (sim *Simulation) mix(values ...uint64) {
	for _, v := range values {
		sim.digest = (sim.digest ^ v) * 0x100000001b3
	}
}

func (sim *Simulation) mixText(s string) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s))
	sim.mix(h.Sum64())
}

// tracef adds a line to the trace. Call it only while tracing.
func (sim *Simulation) tracef(format string, args ...any) {
	at := (sim.now - sim.start).Round(100 * time.Microsecond)
	sim.trace = append(sim.trace, fmt.Sprintf("%10s  %s", at, fmt.Sprintf(format, args...)))
}

// Note adds a line to the trace, if the run keeps one.
func (sim *Simulation) Note(format string, args ...any) {
	if sim.tracing {
		sim.tracef(format, args...)
	}
}

func (sim *Simulation) injected(f Fault, format string, args ...any) {
	sim.injections = append(sim.injections, f)
	sim.mixText(string(f.Kind))
	if sim.tracing {
		sim.tracef("FAULT (%s): %s", f.Kind, fmt.Sprintf(format, args...))
	}
}

// short returns a short name for an entity in the trace, in place of its id.
func (sim *Simulation) short(id string) string {
	if len(id) < 20 {
		return id
	}
	if sim.names[id] == "" {
		sim.names[id] = fmt.Sprint("#", len(sim.names)+1)
	}
	return sim.names[id]
}

// choice selects the part of a seed's plan that a run keeps, by index; nil: all of it.
type choice struct{ faults, actions []int }

func selected(n int, which []int) []int {
	if which != nil {
		return which
	}
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// Run simulates one seed and returns its report, without a trace.
func Run(sys System, seed uint64) *Report { return run(sys, seed, nil, false) }

func run(sys System, seed uint64, part *choice, tracing bool) *Report {
	sim := &Simulation{
		sys:      sys.withDefaults(),
		seed:     seed,
		rng:      rand.New(rand.NewPCG(seed, 1)),
		byName:   map[string]*supervisor{},
		opener:   memory.Opener(),
		poisoned: map[poisoned]bool{}, poisonous: map[string]*supervisor{}, deadly: map[string]*supervisor{},
		counts:  map[string]int{},
		digest:  0xcbf29ce484222325,
		tracing: tracing,
		names:   map[string]string{},
		ledger:  newLedger(),
		remote:  remoteCalls{byKey: map[string]*remoteCall{}, keyOf: map[string]string{}},
		waits: waits{
			deadline: sys.Deadline,
			timers:   map[string]bool{},
			expired:  map[string]bool{},
			undone:   map[string]bool{},
		},
	}
	defer sim.end()
	sim.scenario = sim.sys.Begin(sim, rand.New(rand.NewPCG(seed, 2)))
	r := &Report{Seed: seed}
	if err := sim.prepare(); err != nil {
		sim.Violated(NotMade, err)
		return r.of(sim)
	}
	if sim.scenario.Setup != nil {
		sim.scenario.Setup(sim)
		sim.Rest(sim.sys.Settle)
	}
	sim.start, sim.injections = sim.now, nil
	if len(sim.violations) == 0 {
		sim.trace = nil // the trace begins here
	}
	faults := sim.plan(rand.New(rand.NewPCG(seed, 3)))
	r.planned = len(faults)
	if part == nil {
		part = &choice{}
	}
	for _, i := range selected(len(faults), part.faults) {
		r.Faults = append(r.Faults, faults[i])
		sim.after(faults[i].At, func() { sim.inject(faults[i]) })
	}
	r.actions = len(sim.scenario.Actions)
	for _, i := range selected(r.actions, part.actions) {
		a := sim.scenario.Actions[i]
		r.Actions = append(r.Actions, a.What)
		sim.after(a.At, func() {
			sim.Note("%s", a.What)
			a.Do(sim)
		})
	}
	sim.live()
	return r.of(sim)
}

// live runs the system after its setup: the time of faults, then until the system rests, then the checks.
func (sim *Simulation) live() {
	sim.runFor(sim.sys.Horizon)
	for _, s := range sim.supervisors {
		s.armed, s.skew, s.want = nil, 0, 1
	}
	if sim.tracing {
		sim.tracef("no more faults from here on")
	}
	sim.outlast()
	sim.showHealth()
	switch rests := sim.Rest(sim.sys.Settle) && sim.watch(); {
	case sim.over:
		return
	case !rests:
		sim.Violated("the system does not come to rest: %d deliveries and %d requests are under way", sim.open, sim.clients)
		return
	}
	if sim.scenario.Check != nil {
		sim.scenario.Check(sim)
	}
	sim.checkDead()
	sim.checkProjections()
	if sim.seed%sim.sys.Age == 0 {
		sim.checkAge()
	}
	sim.checkOutbox()
}

var discard = slog.New(slog.DiscardHandler)

var errGone = fault.New(fault.Unavailable, "the process has stopped")
