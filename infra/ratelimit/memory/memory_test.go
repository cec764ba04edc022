package memory_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebb-dev/ebb/infra/ratelimit"
	"github.com/ebb-dev/ebb/infra/ratelimit/memory"
	"github.com/ebb-dev/ebb/infra/ratelimit/ratelimittest"
)

// clock is the time that a test sets.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func TestLimiter(t *testing.T) {
	ratelimittest.Run(t, func(*testing.T) ratelimittest.Harness {
		c := &clock{time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)}
		return ratelimittest.Harness{Limiter: memory.New(c.Now), Advance: func(d time.Duration) { c.now = c.now.Add(d) }}
	})
}

func TestLimiterWithTheRealClock(t *testing.T) {
	ratelimittest.Run(t, func(*testing.T) ratelimittest.Harness { return ratelimittest.Harness{Limiter: memory.New(nil)} })
}

// Counters that have their whole quota are removed while others are added.
func TestCountersAreRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := memory.New(nil)
		for i := range 100_000 {
			limit := ratelimit.Limit{Key: fmt.Sprint(i), Quota: 10, Window: 10 * time.Second}
			if _, err := l.Take(t.Context(), []ratelimit.Limit{limit}); err != nil {
				t.Fatal(err)
			}
			if i%100 == 99 {
				time.Sleep(time.Second)
			}
		}
		if n := l.Len(); n > 2000 {
			t.Errorf("there are %d counters, of which 100 are in use", n)
		}
	})
}

// A stranger with many addresses does not fill the memory.
func TestCountersAreBounded(t *testing.T) {
	l := memory.New(nil)
	limit := []ratelimit.Limit{{Quota: 1, Window: 24 * time.Hour}}
	for i := range memory.MaxCounters + 10 {
		limit[0].Key = fmt.Sprint(i)
		if d, err := l.Take(t.Context(), limit); err != nil || !d.Allowed() {
			t.Fatal(d, err)
		}
	}
	if n := l.Len(); n > memory.MaxCounters {
		t.Errorf("there are %d counters", n)
	}
}

// A clock that was set back by a year does not lock anybody out for a year.
func TestClockSetBack(t *testing.T) {
	c := &clock{time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)}
	l := memory.New(c.Now)
	limits := []ratelimit.Limit{{Key: "a", Quota: 1, Window: time.Minute}}
	if _, err := l.Take(t.Context(), limits); err != nil {
		t.Fatal(err)
	}
	c.now = c.now.AddDate(-1, 0, 0)
	if d, err := l.Take(t.Context(), limits); err != nil || d.Wait != time.Minute {
		t.Errorf("got %+v, %v, want to wait a minute", d, err)
	}
}
