package dispatch

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
)

// call is one call of a handler: some lanes, held until it is answered, and their first events.
type call struct {
	lanes  []*lane
	items  []*item
	events []event.Event
	dead   bool // for the dead-letter sink
	over   bool // answered, or given up; guarded by queue.mu
}

// spawn starts as many workers as there is work for. The queue is locked.
func (q *queue) spawn() {
	wanted := q.dead.len + (q.ready.len+q.t.decl.Batch-1)/q.t.decl.Batch
	for ; wanted > 0 && q.workers < q.t.decl.Concurrency && !q.halted; wanted-- {
		q.workers++
		go q.work()
	}
}

// work handles calls until there is nothing to do.
func (q *queue) work() {
	for {
		q.pace()
		c := q.take()
		if c == nil || !q.do(c) { // given up: another worker has this one's place
			return
		}
	}
}

// paceLook is how often a worker that keeps the pace looks whether a batch is full.
const paceLook = 5 * time.Millisecond

// pace waits until the next call may begin.
func (q *queue) pace() {
	for {
		wait := q.early()
		if wait <= 0 {
			return
		}
		time.Sleep(min(wait, paceLook))
	}
}

// early is how long the next call has to wait still. When it need not, it counts as begun.
func (q *queue) early() time.Duration {
	pace := q.t.decl.Pace
	if pace <= 0 {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.halted || q.ready.len+q.dead.len == 0 {
		return 0 // there will be no call
	}
	now := time.Now()
	wait := q.began.Add(pace).Sub(now)
	if wait > 0 && q.dead.len == 0 && q.ready.len < q.t.decl.Batch {
		return wait
	}
	q.began = now
	return 0
}

// take holds lanes for a call. A batch takes the first event of each ready lane, and when
// there are no more lanes the second of each, and so on: never waiting to fill.
func (q *queue) take() *call {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.halted {
		q.workers--
		return nil
	}
	c := &call{}
	if l := q.dead.pop(); l != nil {
		c.dead = true
		c.hold(l)
		c.events = []event.Event{*l.items[0].dead}
	} else {
		for len(c.items) < q.t.decl.Batch {
			l := q.ready.pop()
			if l == nil {
				break
			}
			c.hold(l)
		}
		c.fill(q.t.decl.Batch)
	}
	if len(c.items) == 0 {
		q.workers--
		return nil
	}
	q.calls++
	return c
}

func (c *call) hold(l *lane) {
	l.state, l.taken = laneHeld, 1
	c.lanes = append(c.lanes, l)
	c.items = append(c.items, l.items[0])
}

// fill takes further events of the lanes it holds.
func (c *call) fill(limit int) {
	now := time.Now()
	for more := true; more && len(c.items) < limit; {
		more = false
		for _, l := range c.lanes {
			if len(c.items) == limit || l.taken == len(l.items) {
				continue
			}
			if it := l.items[l.taken]; it.dead == nil && !it.notBefore.After(now) {
				l.taken++
				c.items = append(c.items, it)
				more = true
			}
		}
	}
	c.events = make([]event.Event, len(c.items))
	for i, it := range c.items {
		c.events[i] = it.event
	}
}

// grace is what a handler has to answer after its context has ended.
const grace = 200 * time.Millisecond

// do calls the handler and settles the answer. A handler that does not come back long after its
// timeout is given up, so that it holds up nothing: as on Knative, its event may then be tried
// again while it still runs. False means that it was given up.
func (q *queue) do(c *call) bool {
	began := time.Now()
	sub := q.t.next()
	if sub == nil { // the last one is just being closed: nothing was tried
		results := make([]broker.Result, len(c.items))
		for i := range results {
			results[i].Skipped = true
		}
		q.settle(c, results, 0)
		q.returned()
		return true
	}
	ctx, cancel := sub.ctx, context.CancelFunc(func() {})
	if limit := q.t.decl.Delivery.Timeout; limit > 0 {
		ctx, cancel = context.WithTimeout(ctx, limit)
		watch := time.AfterFunc(limit+grace, func() { q.giveUp(c, limit) })
		defer watch.Stop()
	}
	handle := sub.handle
	if c.dead {
		handle = q.t.decl.Delivery.DeadLetter
	}
	results := q.invoke(ctx, handle, c.events)
	cancel()
	q.reply(sub.ctx, c, results)
	settled := q.settle(c, results, time.Since(began))
	sub.leave()
	q.returned()
	return settled
}

func (q *queue) giveUp(c *call, limit time.Duration) {
	results := make([]broker.Result, len(c.items))
	for i := range results {
		results[i] = broker.Result{Status: http.StatusGatewayTimeout, Message: "no answer within " + limit.String()}
	}
	if !q.settle(c, results, limit+grace) {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.workers--
	q.spawn()
}

// returned notes that a call of a handler has come back.
func (q *queue) returned() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.calls--; q.halted && q.calls == 0 {
		close(q.idle)
	}
}

// invoke calls the handler; one that panics, or answers too little, has failed with status 500.
func (q *queue) invoke(ctx context.Context, h broker.Handler, events []event.Event) (results []broker.Result) {
	defer func() {
		if r := recover(); r != nil {
			q.t.core.opts.Logger.Error("a handler panicked", "trigger", q.t.decl.Name, "panic", r, "stack", string(debug.Stack()))
			results = nil
		}
		for len(results) < len(events) {
			results = append(results, broker.Result{Status: http.StatusInternalServerError, Message: "the handler failed without an answer"})
		}
	}()
	return h(ctx, events)
}

// reply publishes what the handler answered with. An event whose reply is not taken is not
// finished: its delivery counts as failed.
func (q *queue) reply(ctx context.Context, c *call, results []broker.Result) {
	var replies []event.Event
	for i := range c.items {
		if r := &results[i]; r.OK() && r.Reply != nil {
			replies = append(replies, *r.Reply)
		}
	}
	if len(replies) == 0 || c.dead || q.t.core.publishSettled(ctx, replies...) == nil {
		return
	}
	for i := range c.items { // one of them may be at fault: each for itself
		r := &results[i]
		if !r.OK() || r.Reply == nil {
			continue
		}
		if err := q.t.core.publishSettled(ctx, *r.Reply); err != nil {
			*r = broker.Result{Status: http.StatusBadGateway, Message: "the reply was not taken: " + fault.Public(err)}
		}
	}
}

// publishSettled publishes what nobody keeps: the event it answers is finished once it is published.
func (c *Core) publishSettled(ctx context.Context, replies ...event.Event) error {
	if err := c.Publish(ctx, replies...); err != nil {
		return err
	}
	return c.Settle(ctx)
}

// settle notes the answers and gives the lanes back; false when that was done before.
func (q *queue) settle(c *call, results []broker.Result, took time.Duration) bool {
	q.mu.Lock()
	if c.over {
		q.mu.Unlock()
		return false
	}
	c.over = true
	now := time.Now()
	failed := make(map[*lane]bool)
	for i, it := range c.items {
		switch {
		case c.dead && !results[i].Skipped:
			q.buried(it, results[i], now)
		case results[i].Skipped && failed[it.lane]:
		case results[i].Skipped: // nothing before it has failed: do not spin
			it.notBefore = now.Add(10 * time.Millisecond)
		default:
			failed[it.lane] = q.answered(it, results[i], now) || failed[it.lane]
		}
	}
	for _, l := range c.lanes {
		q.release(l)
	}
	q.spawn()
	q.mu.Unlock()
	signal(q.t.core.dirty)
	q.observe(c, results, took)
	return true
}

func (q *queue) observe(c *call, results []broker.Result, took time.Duration) {
	o := q.t.core.opts.Observer
	if o == nil || c.dead {
		return
	}
	for i := range c.items {
		if !results[i].Skipped {
			o.Delivered(q.t.decl.Name, results[i].Status, took)
		}
	}
}

// answered notes the answer to an attempt, and reports whether it was a failure.
func (q *queue) answered(it *item, r broker.Result, now time.Time) bool {
	if r.OK() {
		q.t.delivered.Add(1)
		q.remove(it)
		return false
	}
	it.attempts++
	d := &q.t.decl.Delivery
	if it.attempts <= d.Retry && fault.RetryableStatus(r.Status) {
		it.notBefore = now.Add(max(d.Backoff(it.attempts), retryAfter(r)))
		q.t.retried.Add(1)
		if o := q.t.core.opts.Observer; o != nil {
			o.Retried(q.t.decl.Name)
		}
		return true
	}
	if d.DeadLetter == nil {
		q.t.core.opts.Logger.Error("an event could not be delivered and is dropped", "trigger", q.t.decl.Name,
			"event", it.event.ID(), "type", it.event.Type(), "status", r.Status, "attempts", it.attempts)
		q.t.dropped.Add(1)
		q.remove(it)
		return true
	}
	dead := q.deadLetter(it.event, r)
	it.dead, it.attempts, it.notBefore = &dead, 0, time.Time{}
	return true
}

// retryAfter is what the answer asks for; only 429 and 503 may ask.
func retryAfter(r broker.Result) time.Duration {
	if r.Status == http.StatusTooManyRequests || r.Status == http.StatusServiceUnavailable {
		return r.RetryAfter
	}
	return 0
}

const maxErrorData = 1024

func (q *queue) deadLetter(e event.Event, r broker.Result) event.Event {
	dest := q.t.decl.Subscriber
	if dest == "" {
		dest = q.t.decl.Name
	}
	more := map[string]any{broker.ErrorDest: dest, broker.ErrorCode: int32(r.Status)}
	if data := errorData(r.Message); data != "" {
		more[broker.ErrorData] = data
	}
	return withExtensions(e, more)
}

// errorData is the beginning of a message as the value of an attribute, which holds no control characters.
func errorData(s string) string {
	if len(s) > maxErrorData {
		s = s[:maxErrorData]
		for len(s) > 0 && !utf8.ValidString(s[max(0, len(s)-utf8.UTFMax):]) && !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r <= 0x9f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "")))
}

// sinkBackoffMax bounds the wait between attempts at a dead-letter sink, of which there is no last.
const sinkBackoffMax = 30 * time.Second

// buried notes the answer of the dead-letter sink, which is asked until it takes the event.
func (q *queue) buried(it *item, r broker.Result, now time.Time) {
	if r.OK() {
		q.t.deadLettered.Add(1)
		if o := q.t.core.opts.Observer; o != nil {
			o.DeadLettered(q.t.decl.Name)
		}
		q.remove(it)
		return
	}
	it.attempts++
	d := q.t.decl.Delivery
	if d.BackoffDelay <= 0 {
		d.BackoffDelay = broker.DefaultDelivery.BackoffDelay
	}
	if d.BackoffMax <= 0 || d.BackoffMax > sinkBackoffMax {
		d.BackoffMax = sinkBackoffMax
	}
	it.notBefore = now.Add(max(d.Backoff(it.attempts), retryAfter(r)))
	q.t.core.opts.Logger.Warn("the dead-letter sink does not take an event; it is asked again",
		"trigger", q.t.decl.Name, "status", r.Status, "message", fmt.Sprintf("%.100s", r.Message), "attempt", it.attempts)
}
