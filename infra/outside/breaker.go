package outside

import (
	"sync"
	"time"
)

// breaker opens after failures in a row. When its pause is over one call is let through; its result closes the breaker
// or opens it again.
//
// It is written here because the breakers of libraries have a clock of their own, and this one must follow the clock of
// the function's environment, as the simulation needs.
type breaker struct {
	policy   Breaker
	mu       sync.Mutex
	failures int
	until    time.Time // open until then; zero: closed
	probing  time.Time // since when a call tries whether the service is back; zero: none does
}

// closedIn returns how long calls are refused; 0: this call may be made.
func (b *breaker) closedIn(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.until.Sub(now) > b.policy.Pause { // the clock was set back
		b.until = now
	}
	switch {
	case b.until.IsZero():
		return 0
	case now.Before(b.until):
		return b.until.Sub(now)
	case !b.probing.IsZero() && now.Sub(b.probing).Abs() < b.policy.Pause:
		return b.policy.Pause
	}
	b.probing = now
	return 0
}

// record notes the end of a call.
func (b *breaker) record(now time.Time, failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !failed {
		b.failures, b.until, b.probing = 0, time.Time{}, time.Time{}
		return
	}
	b.failures++
	if b.policy.Failures > 0 && b.failures >= b.policy.Failures {
		b.until, b.probing = now.Add(b.policy.Pause), time.Time{}
	}
}
