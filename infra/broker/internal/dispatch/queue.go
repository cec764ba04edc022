package dispatch

import (
	"context"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// A trigger holds at most so much unfinished, give or take one log entry.
const (
	maxOpen      = 4096
	maxOpenBytes = 32 << 20
)

// catchUp is how many entries a trigger reads at once that is behind the others.
const catchUp = 8

// saveIdle is how far a trigger reads on over events that are not for it before its place is worth saving.
const saveIdle = 512

// queue is the unfinished work of a trigger that is being served.
//
// Events of one partition key stand in one lane, and a lane is in at most one call of the
// handler at a time; events without a key have a lane each. A lane is in exactly one state,
// so that finding work never searches: the ready lanes are in a list.
type queue struct {
	t     *trigger
	left  chan struct{} // the hub has dropped the queue
	room  chan struct{} // there is room again
	idle  chan struct{} // closed when the queue is halted and no handler runs
	match []int         // scratch of offer, which is never called twice at once

	mu      sync.Mutex
	halted  bool
	next    uint64 // the entry to accept next
	saved   uint64 // next, as it was last saved
	moved   bool   // something was finished since the cursor was last taken
	front   *item  // the unfinished events, in the order of the log
	back    *item
	count   int
	bytes   int
	full    bool // somebody waits for room
	lanes   map[string]*lane
	ready   list
	dead    list      // lanes whose first event waits for the dead-letter sink
	workers int       // goroutines that take calls
	calls   int       // calls of a handler that have not returned
	began   time.Time // when the last call did, of a trigger that keeps a pace
}

// item is one event that is not finished.
type item struct {
	event      event.Event // a copy, so that it does not keep the rest of its entry alive
	place      place
	lane       *lane
	attempts   int
	notBefore  time.Time
	dead       *event.Event // set when all attempts have failed: what the sink shall take
	done       bool
	prev, next *item

	own  lane // where an event without a key stands
	self [1]*item
}

func (i *item) size() int { return 512 + len(i.event.DataEncoded) }

type laneState uint8

const (
	laneIdle   laneState = iota // empty
	laneReady                   // in queue.ready or queue.dead
	laneHeld                    // in a call
	laneParked                  // waits for the time of a retry
)

// lane is the events of one partition key, in order.
type lane struct {
	key   string
	state laneState
	items []*item
	taken int   // how many of the first items are in the call that holds the lane
	link  *lane // in a list
}

// list is a queue of lanes.
type list struct {
	first, last *lane
	len         int
}

func (l *list) push(n *lane) {
	n.link = nil
	if l.last == nil {
		l.first = n
	} else {
		l.last.link = n
	}
	l.last = n
	l.len++
}

func (l *list) pop() *lane {
	n := l.first
	if n == nil {
		return nil
	}
	if l.first = n.link; l.first == nil {
		l.last = nil
	}
	n.link = nil
	l.len--
	return n
}

func newQueue(t *trigger, next uint64) *queue {
	return &queue{
		t: t, next: next, saved: next, lanes: make(map[string]*lane),
		left: make(chan struct{}, 1), room: make(chan struct{}, 1), idle: make(chan struct{}),
	}
}

func (q *queue) position() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.next
}

// restore reads the events again that were unfinished when the cursor was saved.
func (q *queue) restore(ctx context.Context, cur Cursor) error {
	for open := cur.Open; len(open) > 0; {
		limit := 1
		if last := open[min(len(open), catchUp)-1].entry; last < open[0].entry+catchUp {
			limit = catchUp
		}
		entries, err := q.t.core.log.Read(ctx, open[0].entry, limit)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return nil // gone from the log, which only an operator does
		}
		open = q.reopen(open, entries)
	}
	return nil
}

// reopen puts the open events of the entries into the queue, and returns what is open after them.
func (q *queue) reopen(open []place, entries []Entry) []place {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range entries {
		for len(open) > 0 && open[0].entry <= entries[i].Pos {
			p := open[0]
			open = open[1:]
			if p.entry != entries[i].Pos || p.index >= len(entries[i].Events) {
				continue
			}
			if e := &entries[i].Events[p.index]; q.t.match.Match(e) {
				q.add(e, p)
			}
		}
	}
	q.moved = true
	q.spawn()
	return open
}

// feed brings events into the queue, from the hub as long as it keeps up, else by reading for itself.
func (q *queue) feed(ctx context.Context) {
	for ctx.Err() == nil {
		if q.t.core.hub.join(q) {
			select {
			case <-q.left:
			case <-ctx.Done():
			}
			continue
		}
		if !q.waitRoom(ctx) {
			return
		}
		entries, err := q.t.core.log.Read(ctx, q.position(), catchUp)
		if err != nil && ctx.Err() == nil {
			q.t.core.opts.Logger.Warn("the log cannot be read", "trigger", q.t.decl.Name, "error", err)
			pause(ctx, time.Second)
		}
		if err == nil && len(entries) == 0 { // a replica that is behind
			pause(ctx, 20*time.Millisecond)
		}
		for i := range entries {
			if !q.offer(&entries[i]) {
				break
			}
		}
	}
}

func (q *queue) isFull() bool { return q.count >= maxOpen || q.bytes >= maxOpenBytes }

// waitRoom waits until a queue that is full is half empty.
func (q *queue) waitRoom(ctx context.Context) bool {
	for {
		q.mu.Lock()
		q.full = q.isFull() || q.full && (q.count > maxOpen/2 || q.bytes > maxOpenBytes/2)
		full := q.full
		q.mu.Unlock()
		if !full {
			return true
		}
		select {
		case <-q.room:
		case <-ctx.Done():
			return false
		}
	}
}

// offer takes the events of the entry that are for the trigger; false when there is no room.
func (q *queue) offer(e *Entry) bool {
	q.match = q.match[:0]
	for i := range e.Events {
		if q.t.match.Match(&e.Events[i]) {
			q.match = append(q.match, i)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.Pos < q.next {
		return true
	}
	if q.halted || q.isFull() {
		return false
	}
	for _, i := range q.match {
		q.add(&e.Events[i], place{e.Pos, i})
	}
	q.next = e.Pos + 1
	if q.next > q.saved+saveIdle && !q.moved {
		q.moved = true
		signal(q.t.core.dirty)
	}
	q.spawn()
	return true
}

// add puts an event at the end of its lane.
func (q *queue) add(e *event.Event, p place) {
	it := &item{event: *e, place: p, prev: q.back}
	if q.back == nil {
		q.front = it
	} else {
		q.back.next = it
	}
	q.back = it
	q.count++
	q.bytes += it.size()

	key := partitionKey(e)
	if key == "" {
		it.self[0] = it
		it.own.items, it.lane = it.self[:], &it.own
	} else {
		if it.lane = q.lanes[key]; it.lane == nil {
			it.lane = &lane{key: key}
			q.lanes[key] = it.lane
		}
		it.lane.items = append(it.lane.items, it)
	}
	if it.lane.state == laneIdle {
		it.lane.state = laneReady
		q.ready.push(it.lane)
	}
}

// remove takes a finished event out of the queue. Its lane is settled by release.
func (q *queue) remove(it *item) {
	it.done = true
	if it.prev == nil {
		q.front = it.next
	} else {
		it.prev.next = it.next
	}
	if it.next == nil {
		q.back = it.prev
	} else {
		it.next.prev = it.prev
	}
	q.count--
	q.bytes -= it.size()
	q.moved = true
	if q.full && q.count <= maxOpen/2 && q.bytes <= maxOpenBytes/2 {
		signal(q.room)
	}
}

// release gives back a lane after a call: what is finished goes, and what is not comes again, in order.
func (q *queue) release(l *lane) {
	keep := l.taken
	for i := l.taken - 1; i >= 0; i-- {
		if it := l.items[i]; !it.done {
			keep--
			l.items[keep] = it
		}
	}
	clear(l.items[:keep])
	l.items, l.taken = l.items[keep:], 0
	if len(l.items) == 0 {
		l.items, l.state = nil, laneIdle
		delete(q.lanes, l.key)
		return
	}
	if wait := time.Until(l.items[0].notBefore); wait > 0 && !q.halted {
		l.state = laneParked
		time.AfterFunc(wait, func() { q.unpark(l) })
		return
	}
	q.enqueue(l)
}

func (q *queue) enqueue(l *lane) {
	l.state = laneReady
	if l.items[0].dead != nil {
		q.dead.push(l)
	} else {
		q.ready.push(l)
	}
}

func (q *queue) unpark(l *lane) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.enqueue(l)
	q.spawn()
}

// takeCursor is the place of the trigger, encoded; nil when it has not moved since the last time.
func (q *queue) takeCursor() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.moved {
		return nil
	}
	q.moved, q.saved = false, q.next
	c := Cursor{Next: q.next, Open: make([]place, 0, q.count)}
	for it := q.front; it != nil; it = it.next {
		c.Open = append(c.Open, it.place)
	}
	return c.encode()
}

// touch asks for the cursor to be saved again.
func (q *queue) touch() {
	q.mu.Lock()
	q.moved = true
	q.mu.Unlock()
	signal(q.t.core.dirty)
}

// halt stops handing out and waits for the handlers that run.
func (q *queue) halt() {
	q.mu.Lock()
	q.halted = true
	if q.calls == 0 {
		close(q.idle)
	}
	q.mu.Unlock()
	<-q.idle
}
