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
	if wait > 0 && e.dead.len == 0 && e.ready.len < e.trigger.decl.Batch {
		return wait
	}
	e.began = now
	return 0
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

// next returns the next call: for the dead-letter sink, of one suspect, or of a batch. A batch takes the first event of
// each ready queue and, when there are no more of them, the second event of each, and so on. It never waits to fill.
func (e *Engine[R]) next() *call[R] {
	turns := &e.trigger.registry.turns
	c := &call[R]{alone: e.dead.len == 0 && e.suspects.len > 0}
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
		for len(c.items) < e.trigger.decl.Batch && c.bytes < broker.MaxBatchBytes {
			k := e.pop(&e.ready)
			if k == nil {
				break
			}
			c.hold(k)
		}
		c.fill(e.trigger.decl.Batch)
	}
	if len(c.items) == 0 { // everything was revoked, or nothing waits
		turns.end(c.alone)
		return nil
	}
	return c
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

// fill takes further events of the key queues that the call holds, unless the batch is full.
func (c *call[R]) fill(limit int) {
	now := time.Now()
	full := func() bool { return len(c.items) >= limit || c.bytes >= broker.MaxBatchBytes }
	for more := true; more && !full(); {
		more = false
		for _, k := range c.keys {
			if full() || k.taken == len(k.items) {
				continue
			}
			if it := k.items[k.taken]; it.dead == nil && !it.suspect && !it.notBefore.After(now) {
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
