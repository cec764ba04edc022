package simulate

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/breaker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
)

// trigger is the durable subscription of a function. It follows the rules of the port: events of one partition key wait
// in one queue, and each queue takes part in one call at a time.
type trigger struct {
	s       *supervisor
	decl    broker.Trigger
	match   broker.Matcher
	queues  map[string]*keyQueue
	ready   []*keyQueue
	calls   int
	pumping bool

	breaker *breaker.Breaker // nil: every answer counts
	probing bool             // a call runs that began while the trigger was paused
	later   time.Duration    // when work is looked for after a pause
}

// keyQueue holds the deliveries of one partition key, in order.
type keyQueue struct {
	key    string
	items  []*item
	taken  int  // how many of the first items are in the current call
	busy   bool // ready, in a call or waiting for its time
	failed bool // an item failed in the call that is being settled
}

// item is a delivery that is not finished.
type item struct {
	e         ce.Event
	keyQueue  *keyQueue
	attempts  int
	outside   breaker.Event // failures that were not its fault
	notBefore time.Duration
	dead      *ce.Event // for the dead-letter sink
	tried     bool      // a call with it has begun
	done      bool
}

func newTrigger(s *supervisor, decl broker.Trigger) (*trigger, error) {
	m, err := broker.Compile(decl.Filters)
	if err != nil {
		return nil, err
	}
	decl.Batch, decl.Concurrency = max(decl.Batch, 1), max(decl.Concurrency, 1)
	decl.Delivery.Patience = min(decl.Delivery.Patience, patience)
	return &trigger{
		s: s, decl: decl, match: m, queues: map[string]*keyQueue{}, breaker: breaker.New(decl.Delivery),
	}, nil
}

// maxEvents ends a run that would not end by itself.
const maxEvents = 50_000

// publish records the events as durable and offers them to every trigger.
func (sim *Simulation) publish(es ...ce.Event) {
	for _, e := range es {
		if sim.events++; sim.events > maxEvents {
			if !sim.over {
				sim.Violated("the system emits events without end: more than %d", maxEvents)
			}
			sim.over = true
			return
		}
		sim.published = append(sim.published, e)
		sim.ledger.accepted[identity(e.Source(), e.ID())] = true
		sim.waits.observe(&e, sim.sys.maxDeadline())
		sim.mixText(e.ID())
		if sim.tracing && e.Type() != event.ClockSwept.Name() {
			sim.tracef("%s emits %s of %s", e.Source(), e.Type(), sim.short(e.Subject()))
		}
		for _, s := range sim.supervisors {
			if s.trigger != nil && s.trigger.match.Match(&e) {
				s.trigger.offer(e)
			}
		}
	}
}

// Publish hands events to the broker from outside of all functions, unchanged and without faults.
func (sim *Simulation) Publish(es ...ce.Event) { sim.publish(es...) }

func (t *trigger) offer(e ce.Event) {
	sim := t.s.sim
	key := text(e, event.PartitionKey)
	if e.Type() == event.ClockSwept.Name() {
		t.add(key, e, 0) // a late sweep tests nothing
		return
	}
	// A fault as long as a deadline is for a command, if the function consumes any.
	fits := func(f Fault) bool { return f.Deadlines == 0 || !t.s.commands || isCommand(t.s.types, e.Type()) }
	if f, ok := t.s.hitIf(Duplicate, fits); ok {
		d := sim.hold(f)
		sim.injected(f, "%s of %s comes to %s once more, after %s", e.Type(), sim.short(e.Subject()), t.s.name, d)
		t.add("", e, sim.now+d)
	}
	if f, ok := t.s.hitIf(Reorder, fits); ok {
		d := sim.hold(f)
		sim.injected(f, "%s of %s comes to %s out of order, after %s", e.Type(), sim.short(e.Subject()), t.s.name, d)
		sim.holdBack(d)
		t.add("", e, sim.now+d)
		return
	}
	var at time.Duration
	if f, ok := t.s.hitIf(Delay, fits); ok {
		d := sim.hold(f)
		sim.injected(f, "%s of %s comes to %s after %s", e.Type(), sim.short(e.Subject()), t.s.name, d)
		sim.holdBack(d)
		at = sim.now + d
	}
	t.add(key, e, at)
}

func (t *trigger) add(key string, e ce.Event, notBefore time.Duration) {
	t.s.sim.open++
	if t.breaker.Paused() {
		t.breaker.Added()
	}
	it := &item{e: e, notBefore: notBefore}
	l := &keyQueue{key: key}
	if key != "" {
		if known := t.queues[key]; known != nil {
			l = known
		} else {
			t.queues[key] = l
		}
	}
	it.keyQueue = l
	l.items = append(l.items, it)
	if len(l.items) == 1 && !l.busy {
		t.free(l)
	}
}

// free makes a queue ready once its first event is due.
func (t *trigger) free(l *keyQueue) {
	sim := t.s.sim
	l.busy = true
	if wait := max(l.items[0].notBefore-sim.now, t.held(l.items[0])); wait > 0 {
		sim.after(wait, func() { t.free(l) })
		return
	}
	t.push(l)
}

// held returns how long the scenario holds back the first delivery of an event.
func (t *trigger) held(it *item) time.Duration {
	hold := t.s.sim.scenario.Hold
	if hold == nil || it.tried || it.dead != nil {
		return 0
	}
	return hold(t.s.name, it.e)
}

func (t *trigger) push(l *keyQueue) {
	t.ready = append(t.ready, l)
	t.wake()
}

// wake schedules a look for work.
func (t *trigger) wake() {
	if t.pumping || t.calls >= t.decl.Concurrency || len(t.ready) == 0 {
		return
	}
	t.pumping = true
	t.s.sim.after(time.Millisecond+time.Duration(t.s.rng.Int64N(int64(4*time.Millisecond))), func() {
		t.pumping = false
		t.pump()
	})
}

func (t *trigger) pump() {
	for t.calls < t.decl.Concurrency && len(t.ready) > 0 && t.call() {
	}
}

// call is a call of a handler.
type call struct {
	t      *trigger
	queues []*keyQueue
	items  []*item
	batch  []ce.Event
	dead   bool
	probe  bool // began while the trigger was paused
	over   bool // answered or timed out
}

// call starts a call: for the dead-letter sink, of one event while the trigger is paused, or with the first event of
// each ready queue, then the second, up to a batch. It returns false when no call may begin now.
func (t *trigger) call() bool {
	c := &call{t: t}
	isDead := func(l *keyQueue) bool { return l.items[0].dead != nil }
	if n := slices.IndexFunc(t.ready, isDead); n >= 0 {
		first := t.ready[n]
		t.ready = slices.Delete(t.ready, n, n+1)
		first.taken = 1
		c.dead, c.queues, c.items, c.batch = true, []*keyQueue{first}, first.items[:1:1], []ce.Event{*first.items[0].dead}
	} else {
		if c.probe = t.breaker.Paused(); c.probe && !t.mayProbe() {
			return false
		}
		c.fill()
	}
	t.calls++
	c.begin()
	return true
}

// mayProbe reports whether a paused trigger may try an event now. Otherwise it schedules the next look for work.
func (t *trigger) mayProbe() bool {
	sim := t.s.sim
	if t.probing {
		return false // its end wakes the trigger
	}
	wait := t.breaker.Wait(sim.Now())
	if at := sim.now + wait; wait > 0 && (t.later <= sim.now || at < t.later) {
		t.later = at
		sim.after(wait, t.wake)
	}
	t.probing = wait <= 0
	return t.probing
}

func (c *call) fill() {
	t, now := c.t, c.t.s.sim.now
	limit := t.decl.Batch
	if c.probe || t.ready[0].items[0].outside.Alone {
		limit = 1
	}
	rest := t.ready[:0]
	for n, l := range t.ready {
		if len(c.items) == limit || l.items[0].outside.Alone && len(c.items) > 0 {
			rest = append(rest, t.ready[n])
			continue
		}
		l.taken = 1
		c.queues, c.items = append(c.queues, l), append(c.items, l.items[0])
	}
	t.ready = rest
	for more := true; more && len(c.items) < limit; {
		more = false
		for _, l := range c.queues {
			if len(c.items) == limit || l.taken == len(l.items) {
				continue
			}
			if it := l.items[l.taken]; it.dead == nil && !it.outside.Alone && it.notBefore <= now && t.held(it) <= 0 {
				l.taken++
				c.items, more = append(c.items, it), true
			}
		}
	}
	c.batch = make([]ce.Event, len(c.items))
	for i, it := range c.items {
		c.batch[i], it.tried = it.e, true
	}
}

func (c *call) begin() {
	s, sim := c.t.s, c.t.s.sim
	if c.dead {
		if s = sim.byName[""]; s == nil {
			c.settle([]broker.Result{{Status: http.StatusOK}})
			return
		}
	}
	first := s.pick(nil)
	c.on(s, first)
	if c.dead {
		return
	}
	if f, ok := s.hit(Twin); ok {
		sim.injected(f, "%d events come to two instances of %s at once", len(c.batch), s.name)
		c.on(s, s.pick(first))
	}
}

// on has an instance handle the batch. The first answer counts.
func (c *call) on(s *supervisor, i *instance) {
	sim := s.sim
	var running *task
	limit := c.t.decl.Delivery.Timeout
	i.enter(func(ok bool) {
		if !ok {
			c.settle(unavailable(len(c.batch)))
			return
		}
		running = sim.cur
		sim.deliveries += len(c.batch)
		results := i.receive(i.callContext(limit), c.batch)
		for n, r := range results {
			if r.OK() && !c.dead {
				sim.acknowledged(s.name, c.batch[n])
			}
		}
		c.answered(s, results)
	})
	if limit > 0 && !c.over {
		sim.after(limit, func() {
			if c.over {
				return
			}
			if running != nil && running.job != nil {
				running.late = s.rng.IntN(2) == 0 // otherwise it goes on, and its answer is ignored
			}
			results := make([]broker.Result, len(c.items))
			for n := range results {
				results[n] = broker.Result{Status: http.StatusGatewayTimeout, Message: "no answer in time"}
			}
			c.settle(results)
		})
	}
}

func (c *call) answered(s *supervisor, results []broker.Result) {
	if results == nil {
		results = make([]broker.Result, len(c.batch)) // no answer
	} else if f, ok := s.hit(LoseAck); ok && !c.dead {
		s.sim.injected(f, "the broker loses the answer of %s", s.name)
		results = make([]broker.Result, len(c.batch))
	}
	c.settle(results)
}

// settle records the answers and releases the queues.
func (c *call) settle(results []broker.Result) {
	if c.over {
		return
	}
	c.over = true
	t, sim := c.t, c.t.s.sim
	if !c.dead {
		defer c.judge(results)
		for i, it := range c.items {
			if t.breaker != nil && results[i].OK() {
				t.breaker.Handled(it.e.Type())
			}
		}
	}
	for i, it := range c.items {
		r := results[i]
		sim.mix(uint64(r.Status))
		switch {
		case c.dead:
			t.deadLettered(it, r)
		case r.Skipped && it.keyQueue.failed:
		case r.Skipped:
			it.notBefore = sim.now + 10*time.Millisecond
		default:
			it.keyQueue.failed = t.recorded(it, r, len(c.items)) || it.keyQueue.failed
		}
	}
	for _, l := range c.queues {
		t.release(l)
	}
	t.calls--
	t.wake()
}

// judge tells the breaker how the call ended.
func (c *call) judge(results []broker.Result) {
	t, sim := c.t, c.t.s.sim
	if c.probe {
		t.probing = false
	}
	tried, all, wait := false, true, time.Duration(0)
	for _, r := range results {
		if !r.Skipped {
			tried, all, wait = true, all && breaker.OfFunction(r), max(wait, r.RetryAfter)
		}
	}
	if t.breaker != nil && tried && t.breaker.Called(c.probe, all, wait, sim.Now()) && sim.tracing {
		sim.tracef("the trigger of %s is paused: %v", t.s.name, t.breaker.Paused())
	}
}

// counts reports whether a failed attempt counts. A test breaks it.
var counts = (*breaker.Breaker).Counts

// recorded records the answer to an attempt in a call of so many events, and reports whether it failed.
func (t *trigger) recorded(it *item, r broker.Result, events int) bool {
	sim := t.s.sim
	if sim.tracing && !r.OK() {
		sim.tracef("%s answers %d to %s of %s", t.s.name, r.Status, it.e.Type(), sim.short(it.e.Subject()))
	}
	if r.OK() {
		it.done = true
		sim.open--
		if r.Reply != nil {
			sim.publish(*r.Reply)
		}
		return false
	}
	if r.Status == http.StatusInternalServerError {
		sim.Violated("%s answers 500 to %s: %s", t.s.name, it.e.Type(), r.Message)
	}
	d := &t.decl.Delivery
	if t.breaker != nil && !counts(t.breaker, &it.outside, it.e.Type(), r, events, sim.Now()) {
		wait := max(d.Backoff(it.outside.Failures), r.RetryAfter)
		if t.breaker.Paused() && breaker.OfFunction(r) {
			wait = 0
		}
		it.notBefore = sim.now + wait
		return true
	}
	if sim.waits.held > 0 {
		it.attempts = min(it.attempts, d.Retry/2)
	}
	it.attempts++
	if it.attempts <= d.Retry && fault.RetryableStatus(r.Status) {
		wait := d.Backoff(it.attempts)
		if r.Status == http.StatusTooManyRequests || r.Status == http.StatusServiceUnavailable {
			wait = max(wait, r.RetryAfter)
		}
		it.notBefore = sim.now + wait
		return true
	}
	dead := it.e.Clone()
	dead.SetExtension(broker.ErrorDest, t.decl.Subscriber)
	dead.SetExtension(broker.ErrorCode, int32(r.Status))
	dead.SetExtension(broker.ErrorData, r.Message)
	it.dead, it.attempts, it.notBefore = &dead, 0, 0
	if sim.isPoison(it.e) {
		sim.poisoned[poisoned{it.e.ID(), t.s.name}] = true
	} else {
		sim.dead = append(sim.dead, deadLetter{t.s.name, fmt.Sprintf("%s of %s for %s: %d %s",
			it.e.Type(), sim.short(it.e.Subject()), t.s.name, r.Status, r.Message), it.e})
	}
	return true
}

// deadLettered records the answer of the dead-letter sink, which is tried until it accepts the event.
func (t *trigger) deadLettered(it *item, r broker.Result) {
	if r.OK() {
		it.done = true
		t.s.sim.open--
		return
	}
	it.attempts++
	it.notBefore = t.s.sim.now + min(broker.DefaultDelivery.Backoff(it.attempts), 30*time.Second)
}

func (t *trigger) release(l *keyQueue) {
	rest := l.items[:0:0]
	for _, it := range l.items {
		if !it.done {
			rest = append(rest, it)
		}
	}
	l.items, l.taken, l.busy = rest, 0, false
	l.failed = false
	if len(l.items) == 0 {
		delete(t.queues, l.key)
		return
	}
	t.free(l)
}

func text(e ce.Event, name string) string {
	c, ok := e.Context.(*ce.EventContextV1)
	if !ok {
		return ""
	}
	s, _ := c.Extensions[name].(string)
	return s
}
