// Package breaker decides what a failed delivery says: something about its event, or about the function and what that
// needs. The first counts as an attempt, and an event with too many of them is a dead letter. The second is no fault of
// the event, and makes delivery pause. This is the policy:
//
//   - Answers about the event always count: every 4xx but 429, and every 5xx but 502, 503 and 504. A 500 is a handler's
//     unexpected error, and the event is the best clue to it.
//   - No answer, 429, 502, 503 and 504 are about the function: it is not there, too slow, or lacks its database. So is
//     a timeout. An event that is answered so beside others in one call is tried in a call of its own the next time,
//     since any of them may be the cause.
//   - Alone in its call, such an answer counts after all when another event of the same type was handled since the last
//     one: then the function is well and the event is what it cannot bear. Events of other types prove that only when
//     the event has failed for longer than the trigger's patience (Delivery.Patience): a function may lack something
//     that only one type of event needs.
//   - An event that has to wait for another one (Result.Waits) is no failure of anything. It counts when that has
//     lasted for longer than the patience.
//   - When pauseAfter calls in a row had only answers about the function, the trigger is paused. Then one event at a
//     time is tried, a different one each time, less and less often. The first answer that shows a working function
//     ends the pause, also an answer about the event. While a trigger is paused nothing counts, however long that is.
//
// So an outage makes no dead letters, whether of the function, of its store or of a part; and one event that makes the
// function unavailable does not hide behind the pause: others are tried in between, and their success is its attempt.
// If there are no others, it is tried as long as there are none, and the trigger shows as paused.
//
// A trigger without patience has no breaker: every answer counts, as Knative's specification says. Where the platform
// delivers it decides by itself, and its delivery has none of this.
package breaker

import (
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/infra/broker"
)

const (
	pauseAfter = 3                // calls in a row
	probeFirst = time.Second      // between the first probes, and after a new event
	probeMost  = 15 * time.Second // between later probes
	typesMost  = 1000             // event types whose successes are counted
)

// Breaker is the state of one trigger. It must not be used concurrently.
type Breaker struct {
	patience time.Duration
	ofType   map[string]uint64 // events that were handled, by type
	handled  uint64            // all of them
	failing  int               // calls in a row with only answers about the function
	since    time.Time         // when the trigger was paused; zero: it is not
	last     time.Time         // when it was paused or probed last
	wait     time.Duration     // from last to the next probe
}

// Event is what a breaker knows of an unfinished event. The zero value is that of a new one.
type Event struct {
	Alone    bool // the next attempt is made in a call of its own
	Failures int  // answers in a row that did not count

	since           time.Time // the first of these
	ofType, handled uint64    // of the breaker, at the last answer about the function
}

// New returns the breaker of a trigger that is not paused; nil when the delivery has no patience.
func New(d broker.Delivery) *Breaker {
	if d.Patience <= 0 {
		return nil
	}
	return &Breaker{patience: d.Patience, ofType: make(map[string]uint64)}
}

// OfFunction reports whether the answer is about the function and not about the event.
func OfFunction(r broker.Result) bool {
	if r.Waits {
		return false
	}
	switch r.Status {
	case 0, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// Handled notes that an event was handled. Of one call, those that were handled are noted before Counts is called.
func (b *Breaker) Handled(eventType string) {
	if len(b.ofType) >= typesMost {
		clear(b.ofType)
	}
	b.ofType[eventType]++
	b.handled++
}

// Counts notes a failed attempt in a call of so many events, and reports whether it counts.
func (b *Breaker) Counts(e *Event, eventType string, r broker.Result, events int, now time.Time) bool {
	ofFunction := OfFunction(r)
	if !ofFunction && !r.Waits {
		*e = Event{}
		return true
	}
	if e.Failures++; e.Failures == 1 {
		e.since, e.ofType, e.handled = now, b.ofType[eventType], b.handled
	}
	lasts := now.Sub(e.since) > b.patience
	if r.Waits {
		return lasts
	}
	if events > 1 {
		e.Alone = true
		return false
	}
	same, any := b.ofType[eventType] > e.ofType, b.handled > e.handled
	e.ofType, e.handled = b.ofType[eventType], b.handled
	return same || any && lasts
}

// Called notes the end of a call, which may have been a probe: whether all of its answers were about the function, and
// how long the function has asked to wait. It reports whether the trigger is paused by it, or is no longer.
func (b *Breaker) Called(probe, allOfFunction bool, retryAfter time.Duration, now time.Time) (changed bool) {
	paused := b.Paused()
	switch {
	case !allOfFunction:
		b.failing, b.since = 0, time.Time{}
		return paused
	case paused && probe:
		b.wait = max(min(2*b.wait, probeMost), retryAfter)
		b.last = now
		return false
	case paused: // it had begun before
		return false
	}
	if b.failing++; b.failing < pauseAfter {
		return false
	}
	b.since, b.last, b.wait = now, now, max(probeFirst, retryAfter)
	return true
}

// Paused reports whether the trigger is paused.
func (b *Breaker) Paused() bool { return b != nil && !b.since.IsZero() }

// Since returns when the trigger was paused; zero when it is not.
func (b *Breaker) Since() time.Time {
	if b == nil {
		return time.Time{}
	}
	return b.since
}

// Wait returns how long the next probe of a paused trigger has to wait.
func (b *Breaker) Wait(now time.Time) time.Duration { return b.last.Add(b.wait).Sub(now) }

// Added notes that a new event waits, which may be answered otherwise than those that were tried.
func (b *Breaker) Added() {
	if b.Paused() {
		b.wait = min(b.wait, probeFirst)
	}
}
