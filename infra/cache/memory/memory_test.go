package memory_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/cache/cachetest"
	"github.com/ebb-dev/ebb/infra/cache/memory"
)

// clock is moved by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)} }

func TestStore(t *testing.T) {
	cachetest.Run(t, func(*testing.T) cachetest.Harness {
		c := newClock()
		return cachetest.Harness{Store: memory.New(0, c.Now), Advance: c.advance}
	})
}

// The cache stays within its size, whatever is stored and whatever is only asked for, and what it no longer has is
// missing.
func TestSize(t *testing.T) {
	const size = 1 << 20
	s := memory.New(size, newClock().Now)
	for i := range 5000 {
		key := fmt.Sprint(i)
		_, lease, _ := s.Get(t.Context(), key, "all", key)
		_ = s.Set(t.Context(), key, make([]byte, 1000), time.Hour, lease, "all", key)
		_, _, _ = s.Get(t.Context(), "missing "+key, "all", "none "+key)
	}
	if used := memory.Used(s); used > size {
		t.Errorf("got %d bytes, want at most %d", used, size)
	}
	found := 0
	for i := range 5000 {
		if value, _, _ := s.Get(t.Context(), fmt.Sprint(i), "all", fmt.Sprint(i)); value != nil {
			found++
		}
	}
	if found > size/1000 {
		t.Errorf("%d values of 1000 bytes are there", found)
	}
}
