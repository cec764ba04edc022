package simulate

import (
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

// epoch is when every run begins.
var epoch = time.Date(2026, 1, 1, 9, 0, 0, 0, time.UTC)

// World is one run. It belongs to the goroutine that runs it.
type World struct {
	system   manifest.System // what every function declares
	sys      System
	seed     uint64
	scenario *Scenario
	rng      *rand.Rand // what happens beside functions
	agenda   agenda
	now      time.Duration // since epoch
	start    time.Duration // when the setup was done

	tasks   []*task
	pool    []*task // that have nothing to do
	cur     *task
	running int
	over    bool // the run has ended: tasks unwind
	closing bool // nobody is told the time any more

	slots     []*slot
	byName    map[string]*slot
	opener    store.Opener
	open      int // deliveries that have not come to their end
	clients   int // requests that were not answered for good
	published []ce.Event
	poisoned  map[string]bool // by id, whether it became a dead letter
	dead      []string

	violations []Violation
	counts     map[string]int
	strikes    []Fault
	digest     uint64
	telling    bool
	story      []string
	names      map[string]string
	events     int
	deliveries int
	instances  int
}

// Violation is a promise that was not kept. Class is the same for the same promise, whatever the ids.
type Violation struct{ Class, Text string }

// Now is the time of the world; a function's clock may differ.
func (w *World) Now() time.Time { return epoch.Add(w.now) }

// Seed is the seed of the run.
func (w *World) Seed() uint64 { return w.seed }

// Count adds to a figure of the report: "orders", say.
func (w *World) Count(what string, n int) { w.counts[what] += n }

// Violated says that a promise was not kept. The format alone names the promise.
func (w *World) Violated(format string, args ...any) {
	v := Violation{format, fmt.Sprintf(format, args...)}
	if w.telling {
		w.tell("VIOLATED: %s", v.Text)
	}
	if len(w.violations) < 50 {
		w.violations = append(w.violations, v)
	}
}

// After does something later. It is called by the scheduler, so what it does must not wait: use Send, not Call.
func (w *World) After(d time.Duration, do func()) { w.after(d, do) }

// Sleep lets time pass for the handler that runs, and others have their turn meanwhile: for doubles of what is slow.
func (w *World) Sleep(d time.Duration) { w.sleep(d) }

func (w *World) after(d time.Duration, do func()) { w.agenda.put(w.now+max(d, 0), do) }

// run works the agenda off until done says so or nothing is on it.
func (w *World) run(done func() bool) {
	for !w.over && !done() && len(w.agenda.items) > 0 {
		e := w.agenda.take()
		w.now = max(w.now, e.at)
		e.do()
	}
}

// runFor lets time pass.
func (w *World) runFor(d time.Duration) {
	over := false
	w.after(d, func() { over = true })
	w.run(func() bool { return over })
}

// idle reports whether nothing is under way and nothing waits for an attempt.
func (w *World) idle() bool { return w.running == 0 && w.open == 0 && w.clients == 0 }

// Rest lets time pass until the system has nothing more to do, and reports whether it came to that within
// the limit. It is for Setup and Check.
func (w *World) Rest(limit time.Duration) bool {
	end := w.now + limit
	looked := time.Duration(-1)
	settled := false
	w.run(func() bool {
		if w.now >= end {
			return true
		}
		if !w.idle() || w.now < looked+w.sys.Tick {
			return false
		}
		looked = w.now
		settled = w.scenario.Settled == nil || w.scenario.Settled(w)
		return settled
	})
	return settled
}

// Documents is what a function keeps in a collection, by id, straight from its database.
func (w *World) Documents(function, collection string) []store.Document {
	s := w.byName[function]
	if s == nil {
		return nil
	}
	return all(s.schema, w.opener, function, collection)
}

// Published is every event that a broker took, duplicates by a publisher included, in the order in which it did.
// The events must not be changed.
func (w *World) Published() []ce.Event { return w.published }

// mix makes what happens part of the digest.
func (w *World) mix(values ...uint64) {
	for _, v := range values {
		w.digest = (w.digest ^ v) * 0x100000001b3
	}
}

func (w *World) mixText(s string) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s))
	w.mix(h.Sum64())
}

// tell adds a line to the story. Call it only while telling.
func (w *World) tell(format string, args ...any) {
	at := (w.now - w.start).Round(100 * time.Microsecond)
	w.story = append(w.story, fmt.Sprintf("%10s  %s", at, fmt.Sprintf(format, args...)))
}

// Note adds a line to the story, if one is told.
func (w *World) Note(format string, args ...any) {
	if w.telling {
		w.tell(format, args...)
	}
}

func (w *World) struck(f Fault, format string, args ...any) {
	w.strikes = append(w.strikes, f)
	w.mixText(string(f.Kind))
	if w.telling {
		w.tell("FAULT (%s): %s", f.Kind, fmt.Sprintf(format, args...))
	}
}

// short is a name for an entity in the story, in place of an id.
func (w *World) short(id string) string {
	if len(id) < 20 {
		return id
	}
	if w.names[id] == "" {
		w.names[id] = fmt.Sprint("#", len(w.names)+1)
	}
	return w.names[id]
}

// choice is which part of a seed's plan a run keeps; nil: all of it.
type choice struct{ faults, actions []int }

func kept(n int, which []int) []int {
	if which != nil {
		return which
	}
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// Run simulates a seed.
func Run(sys System, seed uint64) *Report { return run(sys, seed, nil, false) }

func run(sys System, seed uint64, part *choice, telling bool) *Report {
	w := &World{sys: sys.withDefaults(), seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), byName: map[string]*slot{},
		opener: memory.Opener(), poisoned: map[string]bool{}, counts: map[string]int{}, digest: 0xcbf29ce484222325,
		telling: telling, names: map[string]string{}}
	defer w.end()
	w.scenario = w.sys.Begin(w, rand.New(rand.NewPCG(seed, 2)))
	r := &Report{Seed: seed}
	if err := w.prepare(); err != nil {
		w.Violated("the system cannot be made: %v", err)
		return r.of(w)
	}
	if w.scenario.Setup != nil {
		w.scenario.Setup(w)
		w.Rest(w.sys.Settle)
	}
	w.start, w.strikes = w.now, nil
	if len(w.violations) == 0 {
		w.story = nil // it begins here
	}
	faults := w.plan(rand.New(rand.NewPCG(seed, 3)))
	r.planned = len(faults)
	if part == nil {
		part = &choice{}
	}
	for _, i := range kept(len(faults), part.faults) {
		r.Faults = append(r.Faults, faults[i])
		w.after(faults[i].At, func() { w.strike(faults[i]) })
	}
	r.actions = len(w.scenario.Actions)
	for _, i := range kept(r.actions, part.actions) {
		a := w.scenario.Actions[i]
		r.Actions = append(r.Actions, a.What)
		w.after(a.At, func() {
			w.Note("%s", a.What)
			a.Do(w)
		})
	}
	w.live()
	return r.of(w)
}

// live is the run after its setup.
func (w *World) live() {
	w.runFor(w.sys.Horizon)
	for _, s := range w.slots {
		s.armed, s.skew, s.want = nil, 0, 1
	}
	if w.telling {
		w.tell("no more faults from here on")
	}
	switch rests := w.Rest(w.sys.Settle); {
	case w.over:
		return
	case !rests:
		w.Violated("the system does not come to rest: %d deliveries and %d requests are under way", w.open, w.clients)
		return
	}
	w.runFor(w.sys.Rest)
	w.Rest(w.sys.Settle)
	if w.scenario.Check != nil {
		w.scenario.Check(w)
	}
	w.checkDead()
	w.checkProjections()
	if w.seed%w.sys.Age == 0 {
		w.checkAge()
	}
	w.checkOutbox()
}

var quiet = slog.New(slog.DiscardHandler)

var errGone = fault.New(fault.Unavailable, "this process does not exist any more")
