package simulate

import (
	"fmt"
	"net/http"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
)

// trigger is a function's durable subscription. Its rules are those of the port: events of one partition key
// stand in one lane, and a lane is in one call at a time.
type trigger struct {
	s       *slot
	decl    broker.Trigger
	match   broker.Matcher
	lanes   map[string]*lane
	ready   []*lane
	calls   int
	pumping bool
}

type lane struct {
	key    string
	items  []*item
	taken  int  // how many of the first are in the call that holds the lane
	busy   bool // ready, held or waiting for its time
	failed bool // in the call that is being settled
}

// item is one delivery that has not come to its end.
type item struct {
	e         ce.Event
	lane      *lane
	attempts  int
	notBefore time.Duration
	dead      *ce.Event // what the dead-letter sink shall take
	done      bool
}

func newTrigger(s *slot, decl broker.Trigger) (*trigger, error) {
	m, err := broker.Compile(decl.Filters)
	if err != nil {
		return nil, err
	}
	decl.Batch, decl.Concurrency = max(decl.Batch, 1), max(decl.Concurrency, 1)
	return &trigger{s: s, decl: decl, match: m, lanes: map[string]*lane{}}, nil
}

// mostEvents ends a run that would not end by itself.
const mostEvents = 50_000

// publish makes the events durable and offers them to every trigger.
func (w *World) publish(es ...ce.Event) {
	for _, e := range es {
		if w.events++; w.events > mostEvents {
			if !w.over {
				w.Violated("the system says events without end: more than %d", mostEvents)
			}
			w.over = true
			return
		}
		w.published = append(w.published, e)
		w.mixText(e.ID())
		if w.telling && e.Type() != event.ClockSwept.Name() {
			w.tell("%s says %s of %s", e.Source(), e.Type(), w.short(e.Subject()))
		}
		for _, s := range w.slots {
			if s.trigger != nil && s.trigger.match.Match(&e) {
				s.trigger.offer(e)
			}
		}
	}
}

// Publish hands events to the broker from outside of all functions, as it is and without a fault.
func (w *World) Publish(es ...ce.Event) { w.publish(es...) }

func (t *trigger) offer(e ce.Event) {
	w := t.s.w
	key := text(e, event.PartitionKey)
	if f, ok := t.s.hit(Duplicate); ok {
		w.struck(f, "%s of %s comes to %s once more, after %s", e.Type(), w.short(e.Subject()), t.s.name, f.For)
		t.add("", e, w.now+f.For)
	}
	if f, ok := t.s.hit(Reorder); ok {
		w.struck(f, "%s of %s comes to %s out of order, after %s", e.Type(), w.short(e.Subject()), t.s.name, f.For)
		t.add("", e, w.now+f.For)
		return
	}
	var at time.Duration
	if f, ok := t.s.hit(Delay); ok {
		w.struck(f, "%s of %s comes to %s after %s", e.Type(), w.short(e.Subject()), t.s.name, f.For)
		at = w.now + f.For
	}
	t.add(key, e, at)
}

func (t *trigger) add(key string, e ce.Event, notBefore time.Duration) {
	t.s.w.open++
	it := &item{e: e, notBefore: notBefore}
	l := &lane{key: key}
	if key != "" {
		if known := t.lanes[key]; known != nil {
			l = known
		} else {
			t.lanes[key] = l
		}
	}
	it.lane = l
	l.items = append(l.items, it)
	if len(l.items) == 1 && !l.busy {
		t.free(l)
	}
}

// free puts a lane among those that are ready, when its first event may be tried.
func (t *trigger) free(l *lane) {
	w := t.s.w
	l.busy = true
	if wait := l.items[0].notBefore - w.now; wait > 0 {
		w.after(wait, func() { t.push(l) })
		return
	}
	t.push(l)
}

func (t *trigger) push(l *lane) {
	t.ready = append(t.ready, l)
	t.wake()
}

// wake has the trigger look for work soon.
func (t *trigger) wake() {
	if t.pumping || t.calls >= t.decl.Concurrency || len(t.ready) == 0 {
		return
	}
	t.pumping = true
	t.s.w.after(time.Millisecond+time.Duration(t.s.rng.Int64N(int64(4*time.Millisecond))), func() {
		t.pumping = false
		t.pump()
	})
}

func (t *trigger) pump() {
	for t.calls < t.decl.Concurrency && len(t.ready) > 0 {
		t.call()
	}
}

// call is one call of a handler.
type call struct {
	t     *trigger
	lanes []*lane
	items []*item
	batch []ce.Event
	dead  bool
	over  bool // answered, or given up
}

// call takes the first event of each ready lane, then the second, and hands them over.
func (t *trigger) call() {
	c := &call{t: t}
	if first := t.ready[0]; first.items[0].dead != nil {
		t.ready = t.ready[1:]
		first.taken = 1
		c.dead, c.lanes, c.items, c.batch = true, []*lane{first}, first.items[:1:1], []ce.Event{*first.items[0].dead}
	} else {
		c.fill()
	}
	t.calls++
	c.begin()
}

func (c *call) fill() {
	t, now := c.t, c.t.s.w.now
	rest := t.ready[:0]
	for n, l := range t.ready {
		if len(c.items) == t.decl.Batch || l.items[0].dead != nil {
			rest = append(rest, t.ready[n])
			continue
		}
		l.taken = 1
		c.lanes, c.items = append(c.lanes, l), append(c.items, l.items[0])
	}
	t.ready = rest
	for more := true; more && len(c.items) < t.decl.Batch; {
		more = false
		for _, l := range c.lanes {
			if len(c.items) == t.decl.Batch || l.taken == len(l.items) {
				continue
			}
			if it := l.items[l.taken]; it.dead == nil && it.notBefore <= now {
				l.taken++
				c.items, more = append(c.items, it), true
			}
		}
	}
	c.batch = make([]ce.Event, len(c.items))
	for i, it := range c.items {
		c.batch[i] = it.e
	}
}

func (c *call) begin() {
	s, w := c.t.s, c.t.s.w
	if c.dead {
		if s = w.byName[""]; s == nil {
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
		w.struck(f, "%d events come to two instances of %s at once", len(c.batch), s.name)
		c.on(s, s.pick(first))
	}
}

// on has an instance handle the batch. What is answered first counts.
func (c *call) on(s *slot, i *instance) {
	w := s.w
	var running *task
	i.enter(func(ok bool) {
		if !ok {
			c.settle(unavailable(len(c.batch)))
			return
		}
		running = w.cur
		w.deliveries += len(c.batch)
		results := i.receive(c.batch)
		c.answered(s, results)
	})
	if limit := c.t.decl.Delivery.Timeout; limit > 0 && !c.over {
		w.after(limit, func() {
			if c.over {
				return
			}
			if running != nil && running.job != nil {
				running.late = s.rng.IntN(2) == 0 // or it goes on, and nobody listens
			}
			results := make([]broker.Result, len(c.items))
			for n := range results {
				results[n] = broker.Result{Status: http.StatusGatewayTimeout, Message: "no answer in time"}
			}
			c.settle(results)
		})
	}
}

func (c *call) answered(s *slot, results []broker.Result) {
	if results == nil {
		results = make([]broker.Result, len(c.batch)) // no answer
	} else if f, ok := s.hit(LoseAck); ok && !c.dead {
		s.w.struck(f, "the broker does not hear what %s answered", s.name)
		results = make([]broker.Result, len(c.batch))
	}
	c.settle(results)
}

// settle notes the answers and gives the lanes back.
func (c *call) settle(results []broker.Result) {
	if c.over {
		return
	}
	c.over = true
	t, w := c.t, c.t.s.w
	for i, it := range c.items {
		r := results[i]
		w.mix(uint64(r.Status))
		switch {
		case c.dead:
			t.buried(it, r)
		case r.Skipped && it.lane.failed:
		case r.Skipped:
			it.notBefore = w.now + 10*time.Millisecond
		default:
			it.lane.failed = t.noted(it, r) || it.lane.failed
		}
	}
	for _, l := range c.lanes {
		t.release(l)
	}
	t.calls--
	t.wake()
}

// noted notes the answer to an attempt, and reports whether it failed.
func (t *trigger) noted(it *item, r broker.Result) bool {
	w := t.s.w
	if w.telling && !r.OK() {
		w.tell("%s answers %d to %s of %s", t.s.name, r.Status, it.e.Type(), w.short(it.e.Subject()))
	}
	if r.OK() {
		it.done = true
		w.open--
		if r.Reply != nil {
			w.publish(*r.Reply)
		}
		return false
	}
	if r.Status == http.StatusInternalServerError {
		w.Violated("%s answers 500 to %s: %s", t.s.name, it.e.Type(), r.Message)
	}
	it.attempts++
	d := &t.decl.Delivery
	if it.attempts <= d.Retry && fault.RetryableStatus(r.Status) {
		wait := d.Backoff(it.attempts)
		if r.Status == http.StatusTooManyRequests || r.Status == http.StatusServiceUnavailable {
			wait = max(wait, r.RetryAfter)
		}
		it.notBefore = w.now + wait
		return true
	}
	dead := it.e.Clone()
	dead.SetExtension(broker.ErrorDest, t.decl.Subscriber)
	dead.SetExtension(broker.ErrorCode, int32(r.Status))
	dead.SetExtension(broker.ErrorData, r.Message)
	it.dead, it.attempts, it.notBefore = &dead, 0, 0
	if _, poisonous := w.poisoned[it.e.ID()]; poisonous {
		w.poisoned[it.e.ID()] = true
	} else {
		w.dead = append(w.dead, fmt.Sprintf("%s of %s for %s: %d %s", it.e.Type(), w.short(it.e.Subject()), t.s.name, r.Status, r.Message))
	}
	return true
}

// buried notes the answer of the dead-letter sink, which is asked until it takes the event.
func (t *trigger) buried(it *item, r broker.Result) {
	if r.OK() {
		it.done = true
		t.s.w.open--
		return
	}
	it.attempts++
	it.notBefore = t.s.w.now + min(broker.DefaultDelivery.Backoff(it.attempts), 30*time.Second)
}

func (t *trigger) release(l *lane) {
	rest := l.items[:0:0]
	for _, it := range l.items {
		if !it.done {
			rest = append(rest, it)
		}
	}
	l.items, l.taken, l.busy = rest, 0, false
	l.failed = false
	if len(l.items) == 0 {
		delete(t.lanes, l.key)
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
