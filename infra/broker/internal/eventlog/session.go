package eventlog

import (
	"context"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
)

// catchUp is how many entries a trigger reads at once that is behind the others.
const catchUp = 8

// saveIdle is how far a trigger reads on over events that are not for it before its cursor is worth saving.
const saveIdle = 512

// item is an unfinished event, linked with its neighbours in the order of the log.
type item = delivery.Item[openEvent]

type openEvent struct {
	position
	tries      tries // as they are to be saved; guarded by session.mu
	prev, next *item
}

// session is a trigger while this process serves it: how far it has read, and which of its events have not finished.
type session struct {
	broker  *Broker
	trigger *delivery.Trigger
	engine  *delivery.Engine[openEvent]
	left    chan struct{} // the shared reader has dropped the session
	matched []*item       // scratch of offer, which is never called twice at once

	before   attempts // what earlier sessions have left; not changed while the session runs
	suspects int      // how many events were taken for possible suspects
	saving   sync.Mutex

	// mu is never taken while a lock of the engine is held.
	mu       sync.Mutex
	next     uint64       // the entry to accept next
	saved    uint64       // next, as it was last saved
	moved    bool         // the cursor is not what it was when it was last taken
	tried    bool         // the attempts are not what they were when they were last saved
	restored bool         // the events that the saved cursor leaves open have been read
	ended    []endedEvent // dead letters
	front    *item
	back     *item
	open     int // how many events are linked from front to back
}

func newSession(b *Broker, t *delivery.Trigger, next uint64) *session {
	s := &session{broker: b, trigger: t, next: next, saved: next, left: make(chan struct{}, 1)}
	s.engine = delivery.NewEngine(t, 0, s)
	return s
}

func (s *session) position() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

// restore reads the events again that had not finished when the cursor was saved.
func (s *session) restore(ctx context.Context, cur Cursor) error {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.restored = true
	}()
	gone := 0
	for open := cur.Open; len(open) > 0; {
		limit := 1
		if last := open[min(len(open), catchUp)-1].entry; last < open[0].entry+catchUp {
			limit = catchUp
		}
		entries, err := s.broker.log.Read(ctx, open[0].entry, limit)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			gone += len(open)
			break
		}
		for len(open) > 0 && open[0].entry < entries[0].Pos {
			open = open[1:]
			gone++
		}
		open = s.reopen(open, entries)
	}
	if gone > 0 { // only an operator does that
		s.broker.opts.Logger.Error("unfinished events are gone from the log; replay them from the archive",
			"trigger", s.trigger.Name(), "events", gone)
	}
	return nil
}

// reopen hands the open events of the entries to the engine, and returns the positions that are open after them.
func (s *session) reopen(open []position, entries []Entry) []position {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.matched = s.matched[:0]
	for i := range entries {
		for len(open) > 0 && open[0].entry <= entries[i].Pos {
			p := open[0]
			open = open[1:]
			if p.entry != entries[i].Pos || p.index >= len(entries[i].Events) {
				continue
			}
			if e := &entries[i].Events[p.index]; s.trigger.Match(e) {
				s.matched = append(s.matched, s.newItem(e, p))
			}
		}
	}
	s.engine.Hold(s.matched)
	s.link(s.matched)
	s.moved = true
	return open
}

// feed brings events to the engine, from the shared reader as long as it keeps up, else by reading for itself.
func (s *session) feed(ctx context.Context) {
	for ctx.Err() == nil {
		if s.broker.reader.join(s) {
			select {
			case <-s.left:
			case <-ctx.Done():
			}
			continue
		}
		if !s.engine.WaitRoom(ctx) {
			return
		}
		entries, err := s.broker.log.Read(ctx, s.position(), catchUp)
		if err != nil && ctx.Err() == nil {
			s.broker.opts.Logger.Warn("the log cannot be read", "trigger", s.trigger.Name(), "error", err)
			delivery.Pause(ctx, time.Second)
		}
		if err == nil && len(entries) == 0 { // a replica that is behind
			delivery.Pause(ctx, 20*time.Millisecond)
		}
		for i := range entries {
			if !s.offer(&entries[i]) {
				break
			}
		}
	}
}

// offer hands the events of the entry that match the trigger to the engine; it returns false when there is no room.
func (s *session) offer(e *Entry) bool {
	s.matched = s.matched[:0]
	for i := range e.Events {
		if s.trigger.Match(&e.Events[i]) {
			s.matched = append(s.matched, s.newItem(&e.Events[i], position{e.Pos, i}))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Pos < s.next {
		return true
	}
	if len(s.matched) > 0 {
		if !s.engine.Add(s.matched) {
			return false
		}
		s.link(s.matched)
	}
	s.next = e.Pos + 1
	if s.next > s.saved+saveIdle && !s.moved {
		s.moved = true
		delivery.Signal(s.broker.dirty)
	}
	return true
}

// link appends items to the open events. An item that the engine has finished meanwhile waits in Finished for the lock.
func (s *session) link(items []*item) {
	for _, it := range items {
		it.Ref.prev = s.back
		if s.back == nil {
			s.front = it
		} else {
			s.back.Ref.next = it
		}
		s.back = it
	}
	s.open += len(items)
}

// Finished implements delivery.Keeper: it takes events out of the open ones.
func (s *session) Finished(items []*item) {
	s.mu.Lock()
	marked := false
	for _, it := range items {
		r := &it.Ref
		if r.prev == nil {
			s.front = r.next
		} else {
			r.prev.Ref.next = r.next
		}
		if r.next == nil {
			s.back = r.prev
		} else {
			r.next.Ref.prev = r.prev
		}
		r.prev, r.next = nil, nil
		s.tried, marked = s.tried || r.tries.Attempts > 0, marked || r.tries.Begun
		if it.DeadLettered() {
			s.ended = append(s.ended[max(0, len(s.ended)+1-maxEnded):], endedEvent{r.position, r.tries})
		}
	}
	s.open -= len(items)
	s.moved = true
	s.mu.Unlock()
	s.unmark(marked)
	delivery.Signal(s.broker.dirty)
}

// takeCursor returns the trigger's cursor, encoded; nil when it has not moved since the last time.
func (s *session) takeCursor() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.moved {
		return nil
	}
	s.moved, s.saved = false, s.next
	c := Cursor{Next: s.next, Open: make([]position, 0, s.open)}
	for it := s.front; it != nil; it = it.Ref.next {
		c.Open = append(c.Open, it.Ref.position)
	}
	return c.encode()
}

// touch asks for the cursor to be saved again.
func (s *session) touch() {
	s.mu.Lock()
	s.moved = true
	s.mu.Unlock()
	delivery.Signal(s.broker.dirty)
}
