package delivery

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/broker/breaker"
)

// An engine has room while it holds fewer and smaller events than this.
const (
	maxUnfinished      = 4096
	maxUnfinishedBytes = 32 << 20
)

// Engine holds the unfinished events of a trigger that is being served and hands them to its handlers.
//
// Events of one partition key wait in one key queue, which is in at most one call of a handler at a time; an event
// without a key has a queue of its own. R is what a source needs to know an event again. The methods may be called
// concurrently.
type Engine[R any] struct {
	trigger  *Trigger
	keeper   Keeper[R]
	prefetch int
	room     chan struct{} // there is room again
	idle     chan struct{} // closed when the engine is halted and nothing is busy

	mu       sync.Mutex
	halted   bool
	count    int // unfinished events
	bytes    int
	full     bool // WaitRoom waits, or would
	keys     map[string]*keyQueue[R]
	ready    list[R]
	suspects list[R]          // key queues whose first event is to be tried alone
	dead     list[R]          // key queues whose first event waits for the dead-letter sink
	workers  int              // goroutines that take calls
	busy     int              // calls of a handler that have not returned, and reports of what has finished
	began    time.Time        // when the last call did, of a trigger with a MinBatchInterval
	breaker  *breaker.Breaker // nil: every answer counts
	probing  bool             // a call runs that began while the trigger was paused
	wasAlone bool             // the last such call was that of a suspect
	rateNext time.Time        // when the next call may begin, of a trigger with a Rate
	later    *time.Timer      // starts workers when the next call may begin
}

// NewEngine makes an engine for the trigger. With a prefetch the engine has no room while that many key queues wait for
// a handler; 0: only the bounds of memory count.
func NewEngine[R any](t *Trigger, prefetch int, keeper Keeper[R]) *Engine[R] {
	return &Engine[R]{
		trigger: t, keeper: keeper, breaker: breaker.New(t.decl.Delivery),
		prefetch: prefetch, keys: make(map[string]*keyQueue[R]),
		room: make(chan struct{}, 1), idle: make(chan struct{}),
	}
}

// Add takes all of the events, or none and returns false when the engine has no room or is halted.
func (e *Engine[R]) Add(items []*Item[R]) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.halted || e.noRoom() {
		return false
	}
	e.addAll(items)
	return true
}

// Hold takes the events also when there is no room.
func (e *Engine[R]) Hold(items []*Item[R]) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.addAll(items)
}

func (e *Engine[R]) addAll(items []*Item[R]) {
	for _, it := range items {
		e.add(it)
	}
	e.breaker.Added()
	e.spawn()
}

// add appends an event to the queue of its key.
func (e *Engine[R]) add(it *Item[R]) {
	if it.refused != nil {
		it.bury(e.trigger, *it.refused)
	} else {
		e.buryExhausted(it)
	}
	e.count++
	e.bytes += it.size()
	key := PartitionKey(&it.event)
	if key == "" {
		it.self[0] = it
		it.own.items, it.key = it.self[:], &it.own
	} else {
		if it.key = e.keys[key]; it.key == nil {
			it.key = &keyQueue[R]{key: key}
			e.keys[key] = it.key
		}
		it.key.items = append(it.key.items, it)
	}
	if it.key.state == keyIdle {
		e.enqueue(it.key)
	}
}

// remove counts an event as done. Its key queue is put right by release.
func (e *Engine[R]) remove(it *Item[R]) {
	it.done = true
	e.count--
	e.bytes -= it.size()
	e.signalRoom()
}

// release gives back a key queue after a call: finished events leave it, the others are handed out again, in order.
func (e *Engine[R]) release(k *keyQueue[R]) {
	keep := k.taken
	for i := k.taken - 1; i >= 0; i-- {
		if it := k.items[i]; !it.done {
			keep--
			k.items[keep] = it
		}
	}
	clear(k.items[:keep])
	k.items, k.taken = k.items[keep:], 0
	if len(k.items) == 0 {
		e.retire(k)
		return
	}
	if wait := time.Until(k.items[0].notBefore); wait > 0 && !e.halted {
		k.state = keyParked
		k.timer = time.AfterFunc(wait, func() { e.unpark(k) })
		return
	}
	e.enqueue(k)
}

func (e *Engine[R]) retire(k *keyQueue[R]) {
	k.items, k.state = nil, keyIdle
	delete(e.keys, k.key)
}

func (e *Engine[R]) enqueue(k *keyQueue[R]) {
	k.state = keyReady
	e.listOf(k).push(k)
}

// listOf returns the list in which a key queue waits for its first event.
func (e *Engine[R]) listOf(k *keyQueue[R]) *list[R] {
	switch first := k.items[0]; {
	case first.dead != nil:
		return &e.dead
	case first.suspect:
		return &e.suspects
	}
	return &e.ready
}

func (e *Engine[R]) unpark(k *keyQueue[R]) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(k.items) == 0 { // all of them were revoked
		e.retire(k)
		return
	}
	e.enqueue(k)
	e.spawn()
}

// pop takes the first key queue of a list. A queue whose first event was revoked may be empty, or stand in the wrong
// list.
func (e *Engine[R]) pop(l *list[R]) *keyQueue[R] {
	for {
		k := l.pop()
		switch {
		case k == nil:
			return nil
		case len(k.items) == 0:
			e.retire(k)
		case e.listOf(k) != l:
			e.listOf(k).push(k)
		default:
			return k
		}
	}
}

// Revoke takes back events that belong to another process by now. They are not handed out any more; what a handler
// answers that has one already is ignored, and finished is not called for them. Events that were never added are
// ignored.
func (e *Engine[R]) Revoke(items []*Item[R]) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, it := range items {
		if it.done || it.key == nil {
			continue
		}
		e.remove(it)
		k := it.key
		if i := slices.Index(k.items, it); i >= k.taken { // release removes those that are in a call
			k.items = slices.Delete(k.items, i, i+1)
		}
		if k.state == keyParked && k.timer.Stop() {
			k.timer = nil
			if len(k.items) == 0 {
				e.retire(k)
			} else {
				e.enqueue(k)
			}
		}
	}
	e.spawn()
}

// Unfinished returns how many events wait or are being handled.
func (e *Engine[R]) Unfinished() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.count
}

func (e *Engine[R]) noRoom() bool {
	return e.count >= maxUnfinished || e.bytes >= maxUnfinishedBytes || e.prefetch > 0 && e.waiting() >= e.prefetch
}

// halfEmpty reports whether an engine that was full takes events again.
func (e *Engine[R]) halfEmpty() bool {
	return e.count <= maxUnfinished/2 && e.bytes <= maxUnfinishedBytes/2 &&
		(e.prefetch == 0 || e.waiting() <= e.prefetch/2)
}

// waiting returns how many key queues wait for a handler.
func (e *Engine[R]) waiting() int { return e.ready.len + e.suspects.len }

func (e *Engine[R]) signalRoom() {
	if e.full && e.halfEmpty() {
		Signal(e.room)
	}
}

// WaitRoom waits until the engine has room, and half empty when it was full. It returns false when ctx ends before.
func (e *Engine[R]) WaitRoom(ctx context.Context) bool {
	for {
		e.mu.Lock()
		e.full = e.noRoom() || e.full && !e.halfEmpty()
		full := e.full
		e.mu.Unlock()
		if !full {
			return true
		}
		select {
		case <-e.room:
		case <-ctx.Done():
			return false
		}
	}
}

// Halt stops handing out and waits for the handlers that run.
func (e *Engine[R]) Halt() {
	e.mu.Lock()
	e.halted = true
	if e.later != nil {
		e.later.Stop()
	}
	paused := e.breaker.Paused()
	if e.busy == 0 {
		close(e.idle)
	}
	e.mu.Unlock()
	e.trigger.registry.turns.leave(e)
	<-e.idle
	if paused {
		e.observePause(false)
	}
}

// leave counts a call, or a report, as ended.
func (e *Engine[R]) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.busy--; e.halted && e.busy == 0 {
		close(e.idle)
	}
}
