// Package ratelimit is the port that counts requests against limits.
//
// A limit allows a quota of requests in a window, all at once or one after the other, and regains them evenly: the
// generic cell rate algorithm. A counter is one time, at which the whole quota is regained. A request meets all of its
// limits at once: it is counted by each of them, or by none if one of them refuses it.
package ratelimit

import (
	"context"
	"math"
	"time"
)

// Limit is a quota in a window, and whose requests are counted.
type Limit struct {
	Key    string        // of the counter: limits with the same key share it
	Quota  int64         // 1 to 1,000,000 for each second of the window
	Window time.Duration // a second or more
}

// State is what a limit has left after a decision.
type State struct {
	Remaining int64         // requests that it would allow now
	Reset     time.Duration // until it has its whole quota
	Wait      time.Duration // until it allows the request that it refused; 0: it did not refuse
}

// Decision is the answer to one request.
type Decision struct {
	States []State       // of the limits, in their order
	Wait   time.Duration // until all of them allow the request; 0: it was allowed, and is counted
}

// Allowed reports whether the request may be carried out.
func (d Decision) Allowed() bool { return d.Wait == 0 }

// Limiter counts requests. It may be used concurrently.
type Limiter interface {
	// Take asks for one request under all of the limits, in one step. A limiter that cannot decide returns an error,
	// and may have counted the request. Counters are removed when they have their whole quota.
	Take(ctx context.Context, limits []Limit) (Decision, error)
}

// interval returns the microseconds in which a request is regained.
func (l Limit) interval() float64 { return l.window() / float64(l.Quota) }

func (l Limit) window() float64 { return float64(l.Window.Microseconds()) }

// tolerance returns how many microseconds too early a request may be, because sums of fractions are not exact.
func (l Limit) tolerance() float64 { return min(l.interval()/100, 1000) }

// Next returns the counter after one more request, and how long until that is allowed; 0: it is now. The counter and
// now are microseconds since any moment. A counter that is farther away than the window was made before the clock was
// set back, and counts as used up now.
func (l Limit) Next(counter, now float64) (next float64, wait time.Duration) {
	next = l.begin(counter, now) + l.interval()
	if early := next - now - l.window(); early > l.tolerance() {
		wait = micros(early)
	}
	return next, wait
}

func (l Limit) begin(counter, now float64) float64 { return min(max(counter, now), now+l.window()) }

// State returns what a counter has left.
func (l Limit) State(counter, now float64) State {
	used := l.begin(counter, now) - now
	return State{Remaining: int64((l.window() + l.tolerance() - used) / l.interval()), Reset: micros(used)}
}

func micros(us float64) time.Duration { return time.Duration(math.Ceil(us)) * time.Microsecond }
