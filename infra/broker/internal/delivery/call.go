package delivery

import (
	"context"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
)

// grace is how long a handler may take to answer after its context has ended.
const grace = 200 * time.Millisecond

// do calls the handler and records its answer. A handler that does not return soon after its timeout is given up, so
// that it holds up nothing: as on Knative, its event may then be tried again while it still runs. It returns false when
// the call was given up.
func (e *Engine[R]) do(c *call[R]) bool {
	defer e.leave()
	began := time.Now()
	sub := e.trigger.next()
	if sub == nil { // the last one is being closed: nothing was tried
		results := make([]broker.Result, len(c.items))
		for i := range results {
			results[i].Skipped = true
		}
		e.record(c, results, 0)
		return true
	}
	if c.alone && !e.mark(c) {
		sub.leave()
		return true
	}
	limit := e.trigger.decl.Delivery.Timeout
	ctx, cancel := sub.callContext(limit)
	if limit > 0 {
		watch := time.AfterFunc(limit+grace, func() { e.giveUp(c, limit) })
		defer watch.Stop()
	}
	handle := sub.handle
	if c.dead {
		handle = e.trigger.decl.Delivery.DeadLetter
		if handle == nil {
			handle = drop
		}
	}
	results := e.invoke(ctx, handle, c.events)
	cancel()
	e.reply(sub, c, results)
	recorded := e.record(c, results, time.Since(began))
	sub.leave()
	return recorded
}

// drop takes a dead letter for which there is no sink; answeredDead counts it.
func drop(context.Context, []event.Event) []broker.Result {
	return []broker.Result{{Status: http.StatusOK}}
}

func (e *Engine[R]) giveUp(c *call[R], limit time.Duration) {
	results := make([]broker.Result, len(c.items))
	for i := range results {
		results[i] = broker.Result{Status: http.StatusGatewayTimeout, Message: "no answer within " + limit.String()}
	}
	e.mu.Lock()
	if c.over {
		e.mu.Unlock()
		return
	}
	e.busy++ // Halt waits until what has finished is reported
	e.mu.Unlock()
	defer e.leave()
	if !e.record(c, results, limit+grace) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.workers--
	e.spawn()
}

// invoke calls the handler. One that panics, or returns too few results, has failed with status 500.
func (e *Engine[R]) invoke(ctx context.Context, h broker.Handler, events []event.Event) (results []broker.Result) {
	defer func() {
		if r := recover(); r != nil {
			e.trigger.registry.opts.Logger.Error("a handler panicked", "trigger", e.trigger.Name(),
				"panic", r, "stack", string(debug.Stack()))
			results = nil
		}
		for len(results) < len(events) {
			results = append(results, broker.Result{
				Status: http.StatusInternalServerError, Message: "the handler failed without an answer",
			})
		}
	}()
	return h(ctx, events)
}

// reply publishes what the handler answered with. The delivery of an event fails when its reply cannot be published.
func (e *Engine[R]) reply(sub *subscription, c *call[R], results []broker.Result) {
	var replies []event.Event
	for i := range c.items {
		if r := &results[i]; r.OK() && r.Reply != nil {
			replies = append(replies, *r.Reply)
		}
	}
	if len(replies) == 0 || c.dead {
		return
	}
	ctx, cancel := sub.callContext(0)
	defer cancel()
	publish := e.trigger.registry.opts.Publish
	if publish(ctx, replies...) == nil {
		return
	}
	for i := range c.items { // one of them may be at fault: each for itself
		r := &results[i]
		if !r.OK() || r.Reply == nil {
			continue
		}
		if err := publish(ctx, *r.Reply); err != nil {
			*r = broker.Result{
				Status: http.StatusBadGateway, Message: "the reply was not taken: " + fault.Public(err),
			}
		}
	}
}
