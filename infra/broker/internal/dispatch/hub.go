package dispatch

import (
	"context"
	"sync"
	"time"
)

// readAhead is how many entries one read of the log takes.
const readAhead = 64

// hub is the one reader of the log that all triggers share which keep up: each entry is read and
// decoded once, and handed to all of them in memory. A trigger that has no room leaves, and
// comes back when it has caught up by itself, so that no trigger waits for another.
type hub struct {
	core   *Core
	grown  chan struct{} // the log has entries that were not read
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}

	mu     sync.Mutex
	next   uint64 // the position read next
	joined map[*queue]struct{}
}

func (h *hub) init(c *Core, next uint64) {
	h.core, h.next = c, next
	h.grown, h.ended = make(chan struct{}, 1), make(chan struct{})
	h.joined = make(map[*queue]struct{})
	h.ctx, h.cancel = context.WithCancel(context.Background())
}

func (h *hub) stop() {
	h.cancel()
	<-h.ended
}

func (h *hub) position() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.next
}

func (h *hub) run() {
	defer close(h.ended)
	for h.ctx.Err() == nil {
		entries, err := h.core.log.Read(h.ctx, h.position(), readAhead)
		switch {
		case h.ctx.Err() != nil:
		case err != nil:
			h.core.opts.Logger.Warn("the log cannot be read", "error", err)
			pause(h.ctx, time.Second)
		case len(entries) == 0:
			select {
			case <-h.grown:
			case <-h.ctx.Done():
			}
		default:
			h.hand(entries)
		}
	}
}

// hand gives the entries to every trigger that has joined.
func (h *hub) hand(entries []Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range entries {
		for q := range h.joined {
			if !q.offer(&entries[i]) {
				delete(h.joined, q)
				signal(q.left)
			}
		}
		h.next = entries[i].Pos + 1
	}
}

// join lets the queue in if it has read as far as the hub has.
func (h *hub) join(q *queue) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if q.position() < h.next {
		return false
	}
	h.joined[q] = struct{}{}
	return true
}

func (h *hub) leave(q *queue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.joined, q)
}

// pause waits for d, or less when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
