package eventlog

import (
	"context"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
)

// readAhead is how many entries one read of the log takes.
const readAhead = 64

// sharedReader reads the log once for all triggers that keep up: each entry is read and decoded once, and handed to all
// of them in memory. A trigger that has no room leaves, and joins again when it has caught up by itself, so that no
// trigger waits for another.
type sharedReader struct {
	broker *Broker
	grown  chan struct{}      // the log has entries that were not read
	cancel context.CancelFunc // ends run
	ended  chan struct{}

	mu     sync.Mutex
	next   uint64 // the position read next
	gaps   []Gap  // large ones before next, oldest first
	joined map[*session]struct{}
}

// A gap of largeGap positions or more is noted, the last maxGaps of them.
const (
	largeGap = 1000
	maxGaps  = 100
)

// init starts the reader at a position, which has gaps before it.
func (r *sharedReader) init(b *Broker, next uint64, gaps []Gap) {
	r.broker, r.next, r.gaps = b, next, gaps
	r.grown, r.ended = make(chan struct{}, 1), make(chan struct{})
	r.joined = make(map[*session]struct{})
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go r.run(ctx)
}

func (r *sharedReader) stop() {
	r.cancel()
	<-r.ended
}

func (r *sharedReader) position() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next
}

// lag returns about how many entries are between a position and the reader's.
func (r *sharedReader) lag(from uint64) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if from >= r.next {
		return 0
	}
	lag := r.next - from
	for _, g := range r.gaps {
		if begin, end := max(g.From, from), min(g.To, r.next); begin < end {
			lag -= end - begin
		}
	}
	return lag
}

func (r *sharedReader) run(ctx context.Context) {
	defer close(r.ended)
	for ctx.Err() == nil {
		entries, err := r.broker.log.Read(ctx, r.position(), readAhead)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			r.broker.opts.Logger.Warn("the log cannot be read", "error", err)
			delivery.Pause(ctx, time.Second)
		case len(entries) == 0:
			select {
			case <-r.grown:
			case <-ctx.Done():
			}
		default:
			r.hand(entries)
		}
	}
}

// hand gives the entries to every trigger that has joined.
func (r *sharedReader) hand(entries []Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range entries {
		for s := range r.joined {
			if !s.offer(&entries[i]) {
				delete(r.joined, s)
				delivery.Signal(s.left)
			}
		}
		if pos := entries[i].Pos; pos >= r.next+largeGap {
			r.gaps = append(r.gaps[max(0, len(r.gaps)+1-maxGaps):], Gap{r.next, pos})
		}
		r.next = entries[i].Pos + 1
	}
}

// join lets the session in if it has read as far as the reader has.
func (r *sharedReader) join(s *session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.position() < r.next {
		return false
	}
	r.joined[s] = struct{}{}
	return true
}

func (r *sharedReader) leave(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.joined, s)
}
