package simulate

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
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

// supervisor runs one function, in as many instances as are wanted.
type supervisor struct {
	sim      *Simulation
	name     string
	function Function
	version  int        // that gets calls: 0 is New, 1 is Next
	both     bool       // half of the calls go to the previous version
	rng      *rand.Rand // for how long its calls take
	ids      *rand.Rand
	skew     time.Duration
	want     int // instances
	all      []*instance
	turn     int
	calls    int // while both versions run
	armed    []*armed

	manifest manifest.Function
	types    event.Catalogue // that the function names
	schema   store.Schema
	stateful bool
	trigger  *trigger
	consumes bool                   // it consumes events other than the clock's sweep
	commands bool                   // it consumes commands
	failedAt time.Duration          // when its store failed last
	races    int                    // injected since its last commit
	sweeps   bool                   // it is the clock
	away     map[Kind]time.Duration // outages, and when they end
}

type state int

const (
	fresh state = iota
	starting
	up
	leaving // gets no more calls
	gone
)

// instance is one process of a function.
type instance struct {
	s       *supervisor
	version int
	f       host.Instance
	handle  broker.Handler
	http    http.Handler
	state   state
	calls   int
	waiting []func()
	lastID  int64
}

// prepare creates a first instance of every function, and the triggers.
func (sim *Simulation) prepare() error {
	for _, c := range sim.scenario.Functions {
		h := fnv.New64a()
		_, _ = h.Write([]byte(c.Name))
		s := &supervisor{sim: sim, name: c.Name, function: c, want: 1,
			rng: rand.New(rand.NewPCG(sim.seed, h.Sum64())), ids: rand.New(rand.NewPCG(sim.seed, h.Sum64()+1))}
		i, err := s.create(0)
		if err != nil {
			return err
		}
		declared := i.f.Declaration()
		sim.system.Functions = append(sim.system.Functions, declared)
		s.manifest, s.schema = declared.Function, declared.Schema
		s.stateful = len(s.schema) > 0
		s.sweeps = slices.Contains(s.manifest.Emits, event.ClockSwept.Name())
		s.types = event.NewCatalogue(declared.Types...)
		for _, name := range s.manifest.Consumes {
			s.consumes = s.consumes || name != event.ClockSwept.Name()
			s.commands = s.commands || isCommand(s.types, name)
		}
		if len(s.manifest.Consumes) > 0 {
			t := declared.Subscription
			if sim.scenario.Trigger != nil {
				t = sim.scenario.Trigger(t)
			}
			if s.trigger, err = newTrigger(s, t); err != nil {
				return err
			}
		}
		if s.manifest.DeadLetters {
			sim.byName[""] = s // the dead-letter sink
		}
		sim.supervisors = append(sim.supervisors, s)
		sim.byName[c.Name] = s
		if s.manifest.Ticks {
			sim.after(sim.sys.Tick, s.tick)
		}
	}
	return nil
}

func (c Function) version(n int) func(function.Env) (*function.Function, error) {
	if n > 0 {
		return c.Next
	}
	return c.New
}

// create makes an instance of a version, without starting it.
func (s *supervisor) create(version int) (*instance, error) {
	i := &instance{s: s, version: version}
	env := s.function.Env
	env.Store, env.Publisher, env.Now, env.NewID = i.open, i, i.now, i.newID
	env.Sleep = func(_ context.Context, d time.Duration) { s.sim.sleep(d) }
	env.Go = func(call func()) { call() }
	if env.Logger == nil {
		env.Logger = discard
	}
	env.System = func() manifest.System { return s.sim.system }
	f, err := s.function.version(version)(env)
	if err != nil {
		return nil, err
	}
	i.f = f.Instance()
	i.handle = i.f.Receive
	if s.sim.scenario.Handle != nil {
		i.handle = s.sim.scenario.Handle(s.name, i.f.Receive)
	}
	i.http = i.f
	if s.sim.scenario.Serve != nil {
		i.http = s.sim.scenario.Serve(s.name, i.f)
	}
	s.all = append(s.all, i)
	s.sim.instances++
	return i, nil
}

func (i *instance) now() time.Time { return i.s.sim.sys.Epoch.Add(i.s.sim.now + i.s.skew) }

// newID returns a UUIDv7 by the instance's clock. As with the uuid library, the ids of one process only grow.
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

// pick returns the instance for the next call, which is not the instance but unless no other can be made.
func (s *supervisor) pick(but *instance) *instance {
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
		s.sim.Violated("%s cannot be made: %v", s.name, err)
		return nil
	}
	s.turn++
	return able[s.turn%min(len(able), max(want, 1))]
}

// coldStart is the shortest time that a start takes.
const coldStart = 20 * time.Millisecond

// enter runs job as a call of the instance. ok is false if the instance is nil or does not start. Only the scheduler
// may call it.
func (i *instance) enter(job func(ok bool)) {
	if i == nil || i.s.isAway(FunctionOutage) {
		job(false)
		return
	}
	i.calls++
	work := func() {
		i.s.sim.cur.inst = i
		i.begin(job)
		i.calls--
		i.leaveIfIdle()
	}
	if i.state == starting {
		i.waiting = append(i.waiting, work)
		return
	}
	i.s.sim.spawn(work)
}

func (i *instance) begin(job func(ok bool)) {
	if i.state == fresh {
		i.start()
	}
	job(i.state == up || i.state == leaving)
}

func (i *instance) start() {
	sim := i.s.sim
	i.state = starting
	sim.sleep(coldStart + time.Duration(i.s.rng.Int64N(int64(100*time.Millisecond))))
	err := i.f.Start(context.Background())
	switch {
	case i.state == gone:
	case err != nil:
		i.remove()
	case i.state == starting:
		i.state = up
	}
	for _, work := range i.waiting {
		sim.after(0, func() { sim.spawn(work) })
	}
	i.waiting = nil
}

// remove ends the process: its calls have no further effect, and its memory is lost.
func (i *instance) remove() {
	i.state = gone
	i.s.all = slices.DeleteFunc(i.s.all, func(o *instance) bool { return o == i })
}

func (s *supervisor) killAll() {
	for _, i := range slices.Clone(s.all) {
		i.remove()
	}
}

// drop stops the idle instances gracefully.
func (s *supervisor) drop(f Fault) {
	for _, i := range slices.Clone(s.all) {
		if i.state == up && i.calls == 0 {
			s.sim.injected(f, "%s is dropped", s.name)
			i.state = leaving
			i.stopNow()
		}
	}
}

// rollout is how long a new version shares the calls with the previous one.
const rollout = 20 * time.Second

// deploy sends half of the new calls to the next version, and all of them after the rollout. A function that runs its
// next version already is only restarted.
func (s *supervisor) deploy(f Fault) {
	sim := s.sim
	if s.version > 0 {
		sim.injected(f, "%s is deployed again", s.name)
		s.replace()
		return
	}
	sim.injected(f, "the next version of %s is deployed and gets half of the calls", s.name)
	s.version, s.both = 1, true
	sim.after(rollout, func() {
		sim.tracef("the next version of %s gets all calls", s.name)
		s.both = false
		s.replace()
	})
}

// replace lets all instances finish their calls and stops them.
func (s *supervisor) replace() {
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
		i.s.sim.after(0, i.stopNow)
	}
}

func (i *instance) stopNow() {
	if i.state != leaving || i.calls > 0 {
		return
	}
	i.calls++
	i.s.sim.spawn(func() {
		i.s.sim.cur.inst = i
		_ = i.f.Stop(context.Background()) // it logs its errors
		i.remove()
	})
}

// tick sends a tick to the function, and schedules the next one.
func (s *supervisor) tick() {
	if s.sim.closing {
		return
	}
	s.sim.after(s.sim.sys.Tick, s.tick)
	i := s.pick(nil)
	s.tickOn(i)
	if f, ok := s.hit(Ticks); ok {
		s.sim.injected(f, "two hosts send %s a tick", s.name)
		s.tickOn(s.pick(i))
	}
}

func (s *supervisor) tickOn(i *instance) {
	if i == nil || i.calls > 8 { // ticks that pile up add nothing
		return
	}
	i.enter(func(ok bool) {
		for more := ok; more; {
			var err error
			if more, err = i.f.Tick(context.Background(), i.now()); err != nil {
				return // the next tick does the rest
			}
		}
	})
}

// receive hands a batch to the instance and returns its results; nil if it stopped before it answered.
func (i *instance) receive(ctx context.Context, batch []ce.Event) (results []broker.Result) {
	defer func() {
		if p := recover(); p != nil {
			i.s.sim.Violated("%s panicked: %v", i.s.name, p)
		}
	}()
	if i.s.kills(batch) && text(batch[0], broker.ErrorDest) == "" {
		i.s.sim.tracef("%s is killed by an event", i.s.name)
		i.remove()
		return nil
	}
	results = i.handle(ctx, batch)
	if i.state == gone {
		return nil
	}
	return results
}

func unavailable(n int) []broker.Result {
	results := make([]broker.Result, n)
	for i := range results {
		results[i] = broker.Result{Status: http.StatusServiceUnavailable, Message: "the function does not start"}
	}
	return results
}

// isCommand reports whether events of the type ask a function to act, other than those that ask the clock for timers.
func isCommand(types event.Catalogue, eventType string) bool {
	info, known := types.Lookup(eventType)
	return known && info.Kind == event.Command && info.Function != event.ClockSchedule.Info().Function
}

// consumesSweep reports whether the function is woken by the clock's sweep and some function of the system is the
// clock.
func (s *supervisor) consumesSweep() bool {
	clock := slices.ContainsFunc(s.sim.supervisors, func(o *supervisor) bool { return o.sweeps })
	return clock && (slices.Contains(s.manifest.Consumes, event.ClockSwept.Name()) ||
		slices.Contains(s.manifest.Consumes, "*"))
}

// poisonable returns the types that the function consumes and whose data can be invalid.
func (s *supervisor) poisonable() []string {
	var types []string
	for _, name := range s.manifest.Consumes {
		if name != "*" && name != event.ClockSwept.Name() {
			types = append(types, name)
		}
	}
	return types
}

// poison publishes an event whose data is no object, as every type wants, or that kills the processes of the function.
// It is a dead letter of every function that consumes events of its type.
func (s *supervisor) poison(f Fault) {
	sim, types := s.sim, s.poisonable()
	e := ce.New()
	e.SetID(strings.ReplaceAll(string(f.Kind), " ", "-") + "-" + f.At.String())
	e.SetSource("/poison")
	e.SetType(types[int(f.At)%len(types)])
	e.SetSubject("poison")
	if e.Type() == event.ClockFired.Name() { // which a function consumes for its own schedules only
		e.SetSubject(s.name + "/poison")
	}
	e.SetTime(sim.Now())
	_ = e.SetData(ce.ApplicationJSON, []byte(`["poison"]`))
	sim.poisonous[e.ID()] = s
	for _, o := range sim.supervisors {
		if slices.Contains(o.poisonable(), e.Type()) && o.trigger.match.Match(&e) {
			sim.poisoned[poisoned{e.ID(), o.name}] = false
		}
	}
	if f.Kind == Deadly {
		sim.deadly[e.ID()] = s
		sim.injected(f, "an event %s that kills every process of %s", e.Type(), s.name)
	} else {
		sim.injected(f, "an event %s that no handler accepts", e.Type())
	}
	sim.publish(e)
}

// poisoned is a poisonous event for a function that consumes its type.
type poisoned struct{ event, function string }

// kills reports whether one of the events kills the function's processes.
func (s *supervisor) kills(batch []ce.Event) bool {
	return slices.ContainsFunc(batch, func(e ce.Event) bool { return s.sim.deadly[e.ID()] == s })
}

// strangersData is data that is not what its content type says, with the type.
var strangersData = [][2]string{
	{ce.ApplicationJSON, "\xff\x00{"}, {ce.ApplicationJSON, `{"a":1} {"b":2}`}, {ce.ApplicationJSON, ""},
	{"application/vnd.stranger+json", `{"a":`}, {"text/plain", "Gr\xf6\xdfe"},
	{"application/octet-stream", "\x00\x01\xff"},
}

// stranger publishes an event of a type that no function knows, as a gateway of another system might.
func (sim *Simulation) stranger(f Fault) {
	e := ce.New()
	e.SetID("stranger-" + f.At.String())
	e.SetSource("HTTP://Stranger.example.com/#")
	e.SetType("com.example.stranger.v1")
	e.SetTime(sim.Now())
	data := strangersData[int(f.At)%len(strangersData)]
	e.SetDataContentType(data[0])
	e.DataEncoded = []byte(data[1])
	sim.injected(f, "an event of %q that is %q", data[0], data[1])
	sim.publish(e)
}
