package knative

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/host"
)

// batcher makes concurrent deliveries share units of work. It has no goroutine of its own: a caller that finds fewer
// running units than allowed runs one, with all events that are waiting then.
type batcher struct {
	handle func(context.Context, []ce.Event) []broker.Result
	batch  int           // the most events of one unit
	limit  time.Duration // the timeout of one delivery

	slots chan struct{} // one for each running unit

	mu      sync.Mutex
	waiting []*delivery
}

// delivery is one event that waits for its result.
type delivery struct {
	event   ce.Event
	at      time.Time // when it arrived
	done    chan broker.Result
	changed chan struct{} // has room for one: the state has changed
	state   state         // guarded by batcher.mu
}

type state int

const (
	waiting state = iota
	taken         // a unit contains it
	left          // its caller is gone
)

// set changes the state and tells the caller. The batcher is locked.
func (d *delivery) set(s state) {
	d.state = s
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// minUnits is the least limit of concurrent units of work, also for a function whose trigger has less concurrency. A
// unit waits for its publish, and a broker may delay that until other deliveries to this function are done. Here the
// broker does not guarantee the order of events anyway, and several instances run concurrently; conflicts in the store
// decide the order.
const minUnits = 8

// A function that takes dead letters and nothing else has no trigger, and the default timeout.
func newBatcher(f host.Instance, t broker.Trigger) *batcher {
	return &batcher{
		handle: f.Receive, batch: max(t.Batch, 1),
		limit: cmp.Or(t.Delivery.Timeout, broker.DefaultDelivery.Timeout),
		slots: make(chan struct{}, max(t.Concurrency, minUnits)),
	}
}

// receive handles events and returns their results. When ctx ends, events that are part of a running unit are still
// handled.
func (b *batcher) receive(ctx context.Context, batch []ce.Event) []broker.Result {
	mine := make([]*delivery, len(batch))
	for i := range batch {
		mine[i] = &delivery{
			event: batch[i], at: time.Now(), done: make(chan broker.Result, 1), changed: make(chan struct{}, 1),
		}
	}
	b.mu.Lock()
	b.waiting = append(b.waiting, mine...)
	b.mu.Unlock()
	results := make([]broker.Result, len(mine))
	for i, d := range mine {
		results[i] = b.wait(ctx, d)
	}
	return results
}

// wait returns the result of one delivery. While no unit contains the delivery, wait may run the next unit.
func (b *batcher) wait(ctx context.Context, d *delivery) broker.Result {
	for {
		select {
		case res := <-d.done:
			return res
		case <-d.changed:
		case <-ctx.Done():
			b.leave(d)
			return broker.Result{Status: http.StatusServiceUnavailable, Message: "the sender ended the delivery"}
		case b.slotsFor(d) <- struct{}{}:
			b.unit(ctx)
			<-b.slots
		}
	}
}

// slotsFor returns the slots to the caller of a delivery that waits; nil to others.
func (b *batcher) slotsFor(d *delivery) chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d.state == waiting {
		return b.slots
	}
	return nil
}

// unit handles the waiting events, at most one batch. It is not cancelled with ctx, because it has events of several
// callers. Events that the function hands back untried, because its time was up, wait for the next unit.
func (b *batcher) unit(ctx context.Context) {
	unit := b.begin()
	if len(unit) == 0 {
		return
	}
	batch := make([]ce.Event, len(unit))
	for i, d := range unit {
		batch[i] = d.event
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), b.deadline(unit[0]))
	defer cancel()
	var back []*delivery
	failed := map[string]bool{}
	for i, res := range b.handle(ctx, batch) {
		key := event.Extension(batch[i], event.PartitionKey)
		if res.Skipped && !failed[key] {
			back = append(back, unit[i])
			continue
		}
		failed[key] = key != "" && (failed[key] || !res.OK())
		unit[i].done <- res
	}
	b.handBack(back)
}

// deadline returns when a unit ends whose oldest delivery is first. The platform waits for each delivery from its
// arrival on, but a unit has half of that time at least: with less it would handle nothing for the others.
func (b *batcher) deadline(first *delivery) time.Time {
	end, least := first.at.Add(b.limit), time.Now().Add(b.limit/2)
	if end.Before(least) {
		return least
	}
	return end
}

// begin takes the waiting deliveries, at most one batch, which is limited in bytes too.
func (b *batcher) begin() []*delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, bytes := 0, 0
	for n < min(len(b.waiting), b.batch) && bytes < broker.MaxBatchBytes {
		bytes += len(b.waiting[n].event.DataEncoded)
		n++
	}
	unit := append([]*delivery(nil), b.waiting[:n]...)
	b.waiting = append(b.waiting[:0], b.waiting[n:]...)
	for _, d := range unit {
		d.set(taken)
	}
	return unit
}

// handBack puts deliveries in front of those that wait.
func (b *batcher) handBack(back []*delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	back = slices.DeleteFunc(back, func(d *delivery) bool { return d.state == left })
	b.waiting = slices.Insert(b.waiting, 0, back...)
	for _, d := range back {
		d.set(waiting)
	}
}

// leave removes a delivery whose caller is gone, unless a unit contains it.
func (b *batcher) leave(d *delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d.state = left
	b.waiting = slices.DeleteFunc(b.waiting, func(w *delivery) bool { return w == d })
}
