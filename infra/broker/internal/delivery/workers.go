package delivery

import (
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
)

// call is one call of a handler: the key queues it holds until it is answered, and the first events of them.
type call[R any] struct {
	keys   []*keyQueue[R]
	items  []*Item[R]
	events []event.Event
	bytes  int  // of the data of the items
	dead   bool // for the dead-letter sink
	alone  bool // of a suspect, beside which no other call of the process runs
	probe  bool // began while the trigger was paused
	over   bool // answered, or given up; guarded by Engine.mu
}

// spawn starts as many workers as there is work for. The engine is locked.
func (e *Engine[R]) spawn() {
	decl := &e.trigger.decl
	wanted := e.dead.len + min(e.suspects.len, 1) + (e.ready.len+decl.Batch-1)/decl.Batch
	for ; wanted > 0 && e.workers < decl.Concurrency && !e.halted; wanted-- {
		e.workers++
		go e.work()
	}
}

// work makes calls until there is nothing to do.
func (e *Engine[R]) work() {
	for {
		e.waitInterval()
		c := e.take()
		if c == nil || !e.do(c) { // given up: another worker goes on instead of this one
			return
		}
	}
}

// intervalCheck is how often a worker that waits for the next batch's time looks whether the batch is full.
const intervalCheck = 5 * time.Millisecond

// waitInterval waits until the next call may begin.
func (e *Engine[R]) waitInterval() {
	for {
		wait := e.untilNextCall()
		if wait <= 0 {
			return
		}
		time.Sleep(min(wait, intervalCheck))
	}
}

// untilNextCall returns how long the next call still has to wait. When it need not wait, it counts as begun.
func (e *Engine[R]) untilNextCall() time.Duration {
	interval := e.trigger.decl.MinBatchInterval
	if interval <= 0 {
		return 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.halted || e.waiting()+e.dead.len == 0 {
		return 0 // there will be no call
	}
	now := time.Now()
	wait := e.began.Add(interval).Sub(now)
	if wait > 0 && e.dead.len == 0 && !e.batchIsFull() {
		return wait
	}
	e.began = now
	return 0
}

// batchIsFull reports whether the events that are ready fill a batch, by their number or their bytes.
func (e *Engine[R]) batchIsFull() bool {
	limit := e.trigger.decl.Batch
	if e.ready.len >= limit {
		return true
	}
	if e.count < limit && e.bytes < broker.MaxBatchBytes {
		return false
	}
	events, bytes := 0, 0
	for k := e.ready.first; k != nil; k = k.link {
		events += len(k.items)
		for _, it := range k.items {
			bytes += len(it.event.DataEncoded)
		}
		if events >= limit || bytes >= broker.MaxBatchBytes {
			return true
		}
	}
	return false
}

// take holds key queues for a call; nil: there is no work, or it is not the engine's turn, and the worker ends.
func (e *Engine[R]) take() *call[R] {
	e.mu.Lock()
	defer e.mu.Unlock()
	var c *call[R]
	if !e.halted {
		c = e.next()
	}
	if e.prefetch > 0 {
		e.signalRoom()
	}
	if c == nil {
		e.workers--
		return nil
	}
	e.busy++
	return c
}

// next returns the next call: for the dead-letter sink, of one suspect, of one event while the trigger is paused, or of
// a batch. A batch takes the first event of each ready queue and, when there are no more of them, the second event of
// each, and so on. It never waits to fill.
func (e *Engine[R]) next() *call[R] {
	now := time.Now()
	limit := e.trigger.decl.Batch
	c, turns := &call[R]{}, &e.trigger.registry.turns
	if e.dead.len == 0 {
		if e.waiting() == 0 || e.tooEarly(now) {
			turns.leave(e) // it asks for a turn again when it has a call to make
			return nil
		}
		// While the trigger is paused suspects and others take turns: one that keeps it paused would be the only probe.
		c.probe = e.breaker.Paused()
		c.alone = e.suspects.len > 0 && (!c.probe || !e.wasAlone || e.ready.len == 0)
	}
	if !turns.begin(e, c.alone, e.wake) {
		return nil
	}
	if k := e.pop(&e.dead); k != nil {
		c.dead = true
		c.hold(k)
		c.events = []event.Event{*k.items[0].dead}
	} else if c.alone {
		if k := e.pop(&e.suspects); k != nil {
			c.hold(k)
			c.events = []event.Event{k.items[0].event}
		}
	} else {
		if rate := e.trigger.decl.Rate; rate > 0 {
			limit = min(limit, max(1, int(rate)))
		}
		if c.probe {
			limit = 1
		}
		e.fill(c, limit, now)
	}
	if len(c.items) == 0 { // everything was revoked, or nothing waits
		turns.end(c.alone)
		return nil
	}
	if c.probe {
		e.probing, e.wasAlone = true, c.alone
	}
	e.pace(len(c.items), now)
	return c
}

// tooEarly reports whether no call may begin now, as the trigger is paused or over its rate. Workers are started when
// that is over.
func (e *Engine[R]) tooEarly(now time.Time) bool {
	wait := e.rateNext.Sub(now)
	if e.breaker.Paused() {
		if e.probing {
			return true // the end of the probe starts workers
		}
		wait = max(wait, e.breaker.Wait(now))
	}
	if wait <= 0 {
		return false
	}
	if e.later != nil {
		e.later.Stop()
	}
	e.later = time.AfterFunc(wait, e.wake)
	return true
}

// pace notes that so many events are handed out.
func (e *Engine[R]) pace(events int, now time.Time) {
	if rate := e.trigger.decl.Rate; rate > 0 {
		if e.rateNext.Before(now) {
			e.rateNext = now
		}
		e.rateNext = e.rateNext.Add(time.Duration(float64(events) / rate * float64(time.Second)))
	}
}

// wake starts workers after it was not the engine's turn.
func (e *Engine[R]) wake() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.spawn()
}

func (c *call[R]) hold(k *keyQueue[R]) {
	k.state, k.taken = keyHeld, 1
	c.keys = append(c.keys, k)
	c.add(k.items[0])
}

func (c *call[R]) add(it *Item[R]) {
	c.items, c.bytes = append(c.items, it), c.bytes+len(it.event.DataEncoded)
}

// fill takes ready key queues and up to limit events of them.
func (e *Engine[R]) fill(c *call[R], limit int, now time.Time) {
	full := func() bool { return len(c.items) >= limit || c.bytes >= broker.MaxBatchBytes }
	for !full() {
		k := e.pop(&e.ready)
		if k == nil {
			break
		}
		if k.items[0].outside.Alone {
			if len(c.items) > 0 {
				e.ready.push(k)
				break
			}
			limit = 1
		}
		c.hold(k)
	}
	for more := true; more && !full(); {
		more = false
		for _, k := range c.keys {
			if full() || k.taken == len(k.items) {
				continue
			}
			if it := k.items[k.taken]; it.joins(now) {
				k.taken++
				c.add(it)
				more = true
			}
		}
	}
	c.events = make([]event.Event, len(c.items))
	for i, it := range c.items {
		c.events[i] = it.event
	}
}

// joins reports whether the event may be tried beside others, after an earlier one of its key.
func (i *Item[R]) joins(now time.Time) bool {
	return i.dead == nil && !i.suspect && !i.outside.Alone && !i.notBefore.After(now)
}
