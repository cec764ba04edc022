package delivery

import (
	"fmt"
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/breaker"
	"github.com/ebb-dev/ebb/infra/fault"
)

// skipPause is how long an event waits that was skipped although no event before it had failed.
const skipPause = 10 * time.Millisecond

// record notes the answers, gives the key queues back and reports what has finished. It returns false, and does
// nothing, when the call was recorded before.
func (e *Engine[R]) record(c *call[R], results []broker.Result, took time.Duration) bool {
	e.mu.Lock()
	if c.over {
		e.mu.Unlock()
		return false
	}
	c.over = true
	done, tried := e.answerAll(c, results)
	changed := e.judge(c, results)
	for _, k := range c.keys {
		e.release(k)
	}
	e.spawn()
	e.mu.Unlock()
	e.observe(c, results, took)
	if changed {
		e.reportPause(results)
	}
	if len(tried) > 0 {
		e.keeper.Tried(tried)
	}
	if len(done) > 0 {
		e.keeper.Finished(done)
	}
	e.trigger.registry.turns.end(c.alone)
	return true
}

// answerAll notes the answers to a call. It returns the events that have finished by them, and the attempts of those
// that have not.
func (e *Engine[R]) answerAll(c *call[R], results []broker.Result) (done []*Item[R], tried []Tried[R]) {
	now := time.Now()
	var failed map[*keyQueue[R]]bool
	done = make([]*Item[R], 0, len(c.items))
	if e.breaker != nil && !c.dead {
		for i, it := range c.items {
			if results[i].OK() && !results[i].Skipped {
				e.breaker.Handled(it.event.Type())
			}
		}
	}
	for i, it := range c.items {
		r, before := results[i], it.attempts
		switch {
		case it.done: // revoked
			continue
		case r.Skipped && failed[it.key]:
		case r.Skipped:
			it.notBefore = now.Add(max(skipPause, r.RetryAfter))
		case c.dead:
			e.answeredDead(it, r, now)
		case !e.answered(it, r, len(c.items), now):
			if failed == nil {
				failed = make(map[*keyQueue[R]]bool)
			}
			failed[it.key] = true
		}
		switch {
		case it.done:
			done = append(done, it)
		case !c.dead && (c.alone || it.attempts > before):
			tried = append(tried, Tried[R]{it, Tries{it.attempts, it.begun}})
		}
	}
	return done, tried
}

func (e *Engine[R]) observe(c *call[R], results []broker.Result, took time.Duration) {
	o := e.trigger.registry.opts.Observer
	if o == nil || c.dead {
		return
	}
	for i := range c.items {
		if !results[i].Skipped {
			o.Delivered(e.trigger.Name(), results[i].Status, took)
		}
	}
}

// answered notes the answer to an attempt in a call of so many events, and reports whether it was a success.
func (e *Engine[R]) answered(it *Item[R], r broker.Result, events int, now time.Time) bool {
	t := e.trigger
	if r.OK() {
		t.delivered.Add(1)
		e.remove(it)
		return true
	}
	d := &t.decl.Delivery
	if e.breaker != nil && !e.breaker.Counts(&it.outside, it.event.Type(), r, events, now) {
		wait := max(d.Backoff(it.outside.Failures), retryAfter(r))
		if e.breaker.Paused() && breaker.OfFunction(r) {
			wait = 0 // the probes have their own pace
		}
		e.retry(it, now.Add(wait))
		return false
	}
	it.attempts++
	it.begun = false
	if it.attempts <= d.Retry && fault.RetryableStatus(r.Status) {
		e.retry(it, now.Add(max(d.Backoff(it.attempts), retryAfter(r))))
		return false
	}
	if d.DeadLetter == nil {
		t.registry.opts.Logger.Error("an event could not be delivered and is dropped", "trigger", t.Name(),
			"event", it.event.ID(), "type", it.event.Type(), "status", r.Status, "attempts", it.attempts)
		t.dropped.Add(1)
		e.remove(it)
		return false
	}
	it.bury(t, r)
	return false
}

// retry has the event tried again.
func (e *Engine[R]) retry(it *Item[R], at time.Time) {
	it.notBefore = at
	e.trigger.retried.Add(1)
	if o := e.trigger.registry.opts.Observer; o != nil {
		o.Retried(e.trigger.Name())
	}
}

// retryAfter returns how long the answer asks to wait. Only 429 and 503 may ask.
func retryAfter(r broker.Result) time.Duration {
	if r.Status == http.StatusTooManyRequests || r.Status == http.StatusServiceUnavailable {
		return r.RetryAfter
	}
	return 0
}

// sinkBackoffMax bounds the wait between attempts at a dead-letter sink, which is asked until it takes the event.
const sinkBackoffMax = 30 * time.Second

// answeredDead notes the answer of the dead-letter sink.
func (e *Engine[R]) answeredDead(it *Item[R], r broker.Result, now time.Time) {
	t := e.trigger
	if t.decl.Delivery.DeadLetter == nil {
		t.dropped.Add(1)
		e.remove(it)
		return
	}
	if r.OK() {
		t.deadLettered.Add(1)
		if o := t.registry.opts.Observer; o != nil {
			o.DeadLettered(t.Name())
		}
		e.remove(it)
		return
	}
	it.atSink++
	d := t.decl.Delivery
	if d.BackoffDelay <= 0 {
		d.BackoffDelay = broker.DefaultDelivery.BackoffDelay
	}
	if d.BackoffMax <= 0 || d.BackoffMax > sinkBackoffMax {
		d.BackoffMax = sinkBackoffMax
	}
	it.notBefore = now.Add(max(d.Backoff(it.atSink), retryAfter(r)))
	t.registry.opts.Logger.Warn("the dead-letter sink does not take an event; it is asked again", "trigger", t.Name(),
		"status", r.Status, "message", fmt.Sprintf("%.100s", r.Message), "attempt", it.atSink)
}
