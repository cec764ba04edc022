package simulate

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/infra/host"
	"github.com/ebb-dev/ebb/infra/manifest"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// slot is where one function runs, in as many instances as it happens to have.
type slot struct {
	w          *World
	name       string
	capability Capability
	version    int        // of the capability that takes calls: 0 is New, 1 is Next
	both       bool       // half of the calls go to the version before
	rng        *rand.Rand // how long its calls take
	ids        *rand.Rand
	skew       time.Duration
	want       int // instances
	all        []*instance
	turn       int
	calls      int // while there are both versions
	armed      []*armed

	manifest manifest.Function
	schema   store.Schema
	stateful bool
	trigger  *trigger
}

type state int

const (
	fresh state = iota
	starting
	up
	leaving // takes no more calls
	gone
)

// instance is one process of a function.
type instance struct {
	s       *slot
	version int
	f       host.Instance
	handle  broker.Handler
	state   state
	calls   int
	waiting []func()
	lastID  int64
}

// prepare makes a first instance of every function, and the triggers.
func (w *World) prepare() error {
	for _, c := range w.scenario.Capabilities {
		h := fnv.New64a()
		_, _ = h.Write([]byte(c.Name))
		s := &slot{w: w, name: c.Name, capability: c, want: 1,
			rng: rand.New(rand.NewPCG(w.seed, h.Sum64())), ids: rand.New(rand.NewPCG(w.seed, h.Sum64()+1))}
		i, err := s.create(0)
		if err != nil {
			return err
		}
		declared := i.f.Declaration()
		w.system.Functions = append(w.system.Functions, declared)
		s.manifest, s.schema = declared.Function, declared.Schema
		s.stateful = len(s.schema) > 0
		if len(s.manifest.Consumes) > 0 {
			if s.trigger, err = newTrigger(s, declared.Subscription); err != nil {
				return err
			}
		}
		if s.manifest.DeadLetters {
			w.byName[""] = s // who takes dead letters
		}
		w.slots = append(w.slots, s)
		w.byName[c.Name] = s
		if s.manifest.Ticks {
			w.after(w.sys.Tick, s.tick)
		}
	}
	return nil
}

func (c Capability) version(n int) func(function.Env) (*function.Function, error) {
	if n > 0 {
		return c.Next
	}
	return c.New
}

// create makes an instance of a version that has not started.
func (s *slot) create(version int) (*instance, error) {
	i := &instance{s: s, version: version}
	env := s.capability.Env
	env.Store, env.Publisher, env.Now, env.NewID = i.open, i, i.now, i.newID
	if env.Logger == nil {
		env.Logger = quiet
	}
	env.System = func() manifest.System { return s.w.system }
	f, err := s.capability.version(version)(env)
	if err != nil {
		return nil, err
	}
	i.f, i.handle = f.Instance(), f.Instance().Receive
	if s.w.scenario.Handle != nil {
		i.handle = s.w.scenario.Handle(s.name, i.f.Receive)
	}
	s.all = append(s.all, i)
	s.w.instances++
	return i, nil
}

func (i *instance) now() time.Time { return epoch.Add(i.s.w.now + i.s.skew) }

// newID is a UUIDv7 by the instance's clock. As with the library's, those of one process only grow.
func (i *instance) newID() string {
	at := i.now().UnixNano() / 1000 // microseconds
	i.lastID = max(i.lastID+1, at)
	ms, part := i.lastID/1000, i.lastID%1000*4+int64(i.s.ids.Uint32()%4)
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[0:8], uint64(ms)<<16|0x7000|uint64(part)&0xfff)
	binary.BigEndian.PutUint64(id[8:16], i.s.ids.Uint64()>>2|1<<63)
	return id.String()
}

// takes reports whether new calls may go to the instance.
func (i *instance) takes() bool { return i.state < leaving }

// pick is the instance for the next call, one that is not but if possible.
func (s *slot) pick(but *instance) *instance {
	version := s.version
	if s.both {
		s.calls++
		version -= s.calls % 2
	}
	var able []*instance
	for _, i := range s.all {
		if i.takes() && i != but && i.version == version {
			able = append(able, i)
		}
	}
	want := s.want
	if but != nil {
		want = 1
	}
	if len(able) < want {
		i, err := s.create(version)
		if err == nil {
			return i
		}
		s.w.Violated("%s cannot be made: %v", s.name, err)
		return nil
	}
	s.turn++
	return able[s.turn%min(len(able), max(want, 1))]
}

// coldStart is the least that a start takes.
const coldStart = 20 * time.Millisecond

// enter runs job as a call of the instance. Without an instance, or one that does not start, ok is false. It
// must be called by the scheduler.
func (i *instance) enter(job func(ok bool)) {
	if i == nil {
		job(false)
		return
	}
	i.calls++
	work := func() {
		i.s.w.cur.inst = i
		i.begin(job)
		i.calls--
		i.leaveIfIdle()
	}
	if i.state == starting {
		i.waiting = append(i.waiting, work)
		return
	}
	i.s.w.spawn(work)
}

func (i *instance) begin(job func(ok bool)) {
	if i.state == fresh {
		i.start()
	}
	job(i.state == up || i.state == leaving)
}

func (i *instance) start() {
	w := i.s.w
	i.state = starting
	w.sleep(coldStart + time.Duration(i.s.rng.Int64N(int64(100*time.Millisecond))))
	err := i.f.Start(context.Background())
	switch {
	case i.state == gone:
	case err != nil:
		i.remove()
	case i.state == starting:
		i.state = up
	}
	for _, work := range i.waiting {
		w.after(0, func() { w.spawn(work) })
	}
	i.waiting = nil
}

// remove ends the process: no call of it has an effect any more, and its memory is gone.
func (i *instance) remove() {
	i.state = gone
	i.s.all = slices.DeleteFunc(i.s.all, func(o *instance) bool { return o == i })
}

func (s *slot) killAll() {
	for _, i := range slices.Clone(s.all) {
		i.remove()
	}
}

// drop stops what is idle, in good order.
func (s *slot) drop(f Fault) {
	for _, i := range slices.Clone(s.all) {
		if i.state == up && i.calls == 0 {
			s.w.struck(f, "%s is dropped", s.name)
			i.state = leaving
			i.stopNow()
		}
	}
}

// rollout is how long a new version shares the calls with the one before.
const rollout = 20 * time.Second

// deploy makes half of the new calls go to the next version, and all of them when that has gone on for a while. What
// runs in its next version is only started anew.
func (s *slot) deploy(f Fault) {
	w := s.w
	if s.version > 0 {
		w.struck(f, "%s is deployed once more", s.name)
		s.replace()
		return
	}
	w.struck(f, "%s is deployed in its next version, which takes half of the calls", s.name)
	s.version, s.both = 1, true
	w.after(rollout, func() {
		w.tell("the next version of %s takes all calls", s.name)
		s.both = false
		s.replace()
	})
}

// replace lets all instances finish what they do, and go.
func (s *slot) replace() {
	for _, i := range slices.Clone(s.all) {
		switch {
		case i.state == fresh:
			i.remove()
		case i.calls > 0:
			i.state = leaving
		default:
			i.state = leaving
			i.stopNow()
		}
	}
}

func (i *instance) leaveIfIdle() {
	if i.state == leaving && i.calls == 0 {
		i.s.w.after(0, i.stopNow)
	}
}

func (i *instance) stopNow() {
	if i.state != leaving || i.calls > 0 {
		return
	}
	i.calls++
	i.s.w.spawn(func() {
		i.s.w.cur.inst = i
		_ = i.f.Stop(context.Background()) // it has logged what it could not do
		i.remove()
	})
}

// tick tells the function the time, and does so again.
func (s *slot) tick() {
	if s.w.closing {
		return
	}
	s.w.after(s.w.sys.Tick, s.tick)
	i := s.pick(nil)
	s.tickOn(i)
	if f, ok := s.hit(Ticks); ok {
		s.w.struck(f, "two hosts tell %s the time", s.name)
		s.tickOn(s.pick(i))
	}
}

func (s *slot) tickOn(i *instance) {
	if i == nil || i.calls > 8 { // ticks that pile up tell nothing new
		return
	}
	i.enter(func(ok bool) {
		for more := ok; more; {
			var err error
			if more, err = i.f.Tick(context.Background(), i.now()); err != nil {
				return // the next one does its work
			}
		}
	})
}

// receive hands a batch to an instance, and gives what it answered; nil: it did not.
func (i *instance) receive(batch []ce.Event) (results []broker.Result) {
	defer func() {
		if p := recover(); p != nil {
			i.s.w.Violated("%s panicked: %v", i.s.name, p)
		}
	}()
	results = i.handle(context.Background(), batch)
	if i.state == gone {
		return nil
	}
	return results
}

func unavailable(n int) []broker.Result {
	results := make([]broker.Result, n)
	for i := range results {
		results[i] = broker.Result{Status: http.StatusServiceUnavailable, Message: "the function does not start just now"}
	}
	return results
}

// poisonable are the types that the function hears and whose data can be wrong.
func (s *slot) poisonable() []string {
	var types []string
	for _, name := range s.manifest.Consumes {
		if name != "*" && name != event.ClockSwept.Name() {
			types = append(types, name)
		}
	}
	return types
}

// poison publishes an event that keeps to no schema.
func (s *slot) poison(f Fault) {
	types := s.poisonable()
	e := ce.New()
	e.SetID("poison-" + f.At.String())
	e.SetSource("/poison")
	e.SetType(types[int(f.At)%len(types)])
	e.SetSubject("poison")
	e.SetTime(s.w.Now())
	_ = e.SetData(ce.ApplicationJSON, []byte(`{"order_id":7,"user_id":7,"product_id":7,"poison":true}`))
	s.w.poisoned[e.ID()] = false
	s.w.struck(f, "an event %s that nobody can take", e.Type())
	s.w.publish(e)
}
