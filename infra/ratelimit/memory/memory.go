// Package memory is a rate limiter that counts in the memory of the process. Each process counts by itself, and a
// stopped one forgets.
package memory

import (
	"context"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/ratelimit"
)

// Limiter is a ratelimit.Limiter. Use New.
type Limiter struct {
	now   func() time.Time
	begin time.Time

	mu       sync.Mutex
	counters map[string]float64
	sweepAt  int // the number of counters at which those that have their whole quota are removed
}

var _ ratelimit.Limiter = (*Limiter)(nil)

// sweepMin is the least number of counters that are swept.
const sweepMin = 1024

// MaxCounters is how many counters there are at most. Beyond that any counter is forgotten for a new one.
const MaxCounters = 1 << 18

// New returns a limiter. now is the clock; nil: time.Now.
func New(now func() time.Time) *Limiter {
	if now == nil {
		now = time.Now
	}
	return &Limiter{now: now, begin: now(), counters: map[string]float64{}, sweepAt: sweepMin}
}

// Take implements ratelimit.Limiter. It returns no error.
func (l *Limiter) Take(_ context.Context, limits []ratelimit.Limit) (ratelimit.Decision, error) {
	d := ratelimit.Decision{States: make([]ratelimit.State, len(limits))}
	next, waits := make([]float64, len(limits)), make([]time.Duration, len(limits))
	l.mu.Lock()
	defer l.mu.Unlock()
	now := float64(l.now().Sub(l.begin)) / 1e3
	for i, limit := range limits {
		next[i], waits[i] = limit.Next(l.counter(limit.Key, now), now)
		d.Wait = max(d.Wait, waits[i])
	}
	for i, limit := range limits {
		if d.Allowed() {
			l.set(limit.Key, next[i], now)
		}
		d.States[i] = limit.State(l.counter(limit.Key, now), now)
		d.States[i].Wait = waits[i]
	}
	return d, nil
}

// counter returns the counter of a key; now if there is none.
func (l *Limiter) counter(key string, now float64) float64 {
	if c, ok := l.counters[key]; ok {
		return c
	}
	return now
}

func (l *Limiter) set(key string, counter, now float64) {
	if _, ok := l.counters[key]; !ok && len(l.counters) >= l.sweepAt {
		l.sweep(now)
	}
	l.counters[key] = counter
}

// sweep removes the counters that have their whole quota, and makes room for one if there is none.
func (l *Limiter) sweep(now float64) {
	for key, c := range l.counters {
		if c <= now {
			delete(l.counters, key)
		}
	}
	for key := range l.counters {
		if len(l.counters) < MaxCounters {
			break
		}
		delete(l.counters, key)
	}
	l.sweepAt = min(max(2*len(l.counters), sweepMin), MaxCounters)
}

// Len returns the number of counters.
func (l *Limiter) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.counters)
}
