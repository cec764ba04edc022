package eventlog

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
)

// A Syncer is a Log whose Append returns before the entry would survive a power cut.
type Syncer interface {
	// Sync returns when everything would survive it whose Append had returned before. It may be called concurrently with
	// everything else.
	Sync(ctx context.Context) error
}

// flusher syncs a Syncer from time to time. Its zero value is that of a log which needs none.
type flusher struct {
	log      Syncer // nil: everything is durable as soon as it is appended
	appended atomic.Uint64
	durable  atomic.Uint64
	mu       sync.Mutex // one sync at a time
	failed   error      // guarded by mu
}

var _ broker.Flusher = (*Broker)(nil)

// Offset implements broker.Flusher.
func (b *Broker) Offset() uint64 { return b.flush.appended.Load() }

// DurableOffset implements broker.Flusher.
func (b *Broker) DurableOffset() uint64 {
	if b.flush.log == nil {
		return math.MaxUint64
	}
	return b.flush.durable.Load()
}

// Flush implements broker.Flusher.
func (b *Broker) Flush(ctx context.Context) error {
	f := &b.flush
	want := f.appended.Load()
	if b.DurableOffset() >= want {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.durable.Load() >= want {
		return nil // by another call
	}
	if f.failed == nil {
		reached := f.appended.Load()
		if f.failed = f.log.Sync(ctx); f.failed == nil {
			f.durable.Store(reached)
			return nil
		}
	}
	// The kernel may have given up what it could not write, and the next fsync would not tell: nothing becomes
	// durable any more, and what was published since then is published again after the next start.
	return fault.Wrap(f.failed, fault.Unavailable,
		"the disk does not take the broker's log; check the disk and start again")
}

// flushLoop syncs what is not durable yet, every so often and once more at the end.
func (b *Broker) flushLoop(ctx context.Context, every time.Duration) {
	defer close(b.flushEnd)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for done := false; !done; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			done = true
		}
		limit, cancel := context.WithTimeout(context.Background(), appendTimeout)
		err := b.Flush(limit)
		cancel()
		if err != nil {
			b.opts.Logger.Error("the log cannot be synced; publishers keep what they have published", "error", err)
			return
		}
	}
}
