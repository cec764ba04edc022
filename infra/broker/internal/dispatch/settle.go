package dispatch

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
	// Sync returns when everything does whose Append had returned before. May be called concurrently with everything else.
	Sync(ctx context.Context) error
}

// settler syncs a Syncer from time to time. Its zero value is that of a log which needs none.
type settler struct {
	log      Syncer // nil: all is settled as soon as it is appended
	appended atomic.Uint64
	settled  atomic.Uint64
	mu       sync.Mutex // one sync at a time
	failed   error      // guarded by mu
}

var _ broker.Settler = (*Core)(nil)

// Place implements broker.Settler.
func (c *Core) Place() uint64 { return c.settle.appended.Load() }

// Settled implements broker.Settler.
func (c *Core) Settled() uint64 {
	if c.settle.log == nil {
		return math.MaxUint64
	}
	return c.settle.settled.Load()
}

// Settle implements broker.Settler.
func (c *Core) Settle(ctx context.Context) error {
	s := &c.settle
	want := s.appended.Load()
	if c.Settled() >= want {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settled.Load() >= want {
		return nil // by somebody who was quicker
	}
	if s.failed == nil {
		reached := s.appended.Load()
		if s.failed = s.log.Sync(ctx); s.failed == nil {
			s.settled.Store(reached)
			return nil
		}
	}
	// The kernel may have given up what it could not write, and the next fsync would not tell: nothing settles
	// any more, and what was published since then is published again after the next start.
	return fault.Wrap(s.failed, fault.Unavailable, "the disk does not take the broker's log; check the disk and start again")
}

// settleLoop syncs what is not settled, every so often and once more at the end.
func (c *Core) settleLoop(every time.Duration) {
	defer close(c.settleEnd)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for done := false; !done; {
		select {
		case <-ticker.C:
		case <-c.keptCtx.Done():
			done = true
		}
		ctx, cancel := context.WithTimeout(context.Background(), appendTimeout)
		err := c.Settle(ctx)
		cancel()
		if err != nil {
			c.opts.Logger.Error("the log cannot be synced; publishers keep what they have published", "error", err)
			return
		}
	}
}
