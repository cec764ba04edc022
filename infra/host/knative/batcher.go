package knative

import (
	"context"
	"net/http"
	"sync"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/host"
)

// batcher makes concurrent deliveries share units of work. It has no goroutine of its own: a caller that finds fewer
// running units than allowed runs one, with all events that are waiting then.
type batcher struct {
	handle func(context.Context, []ce.Event) []broker.Result
	batch  int           // the most events of one unit
	limit  time.Duration // the timeout of one unit

	slots chan struct{} // one for each running unit

	mu      sync.Mutex
	waiting []*delivery
}

// delivery is one event that waits for its result.
type delivery struct {
	event ce.Event
	begun chan struct{} // closed when a unit contains it
	done  chan broker.Result
}

// minUnits is the least limit of concurrent units of work, also for a function whose trigger has less concurrency. A
// unit waits for its publish, and a broker may delay that until other deliveries to this function are done. Here the
// broker does not guarantee the order of events anyway, and several instances run concurrently; conflicts in the store
// decide the order.
const minUnits = 8

func newBatcher(f host.Instance, t broker.Trigger) *batcher {
	return &batcher{
		handle: f.Receive, batch: max(t.Batch, 1), limit: t.Delivery.Timeout,
		slots: make(chan struct{}, max(t.Concurrency, minUnits)),
	}
}

// receive handles events and returns their results. When ctx ends, events that are part of a running unit are still
// handled.
func (b *batcher) receive(ctx context.Context, batch []ce.Event) []broker.Result {
	mine := make([]*delivery, len(batch))
	for i := range batch {
		mine[i] = &delivery{batch[i], make(chan struct{}), make(chan broker.Result, 1)}
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

// wait returns the result of one delivery. Until a unit contains the delivery, wait may run the next unit.
func (b *batcher) wait(ctx context.Context, d *delivery) broker.Result {
	slots := b.slots
	for {
		select {
		case <-d.begun:
			slots = nil
		default:
		}
		select {
		case res := <-d.done:
			return res
		case <-ctx.Done():
			b.remove(d)
			return broker.Result{Status: http.StatusServiceUnavailable, Message: "the sender ended the delivery"}
		case slots <- struct{}{}:
			b.unit(ctx)
			<-b.slots
		}
	}
}

// unit handles the waiting events, at most one batch. It is not cancelled with ctx, because it has events of several
// callers.
func (b *batcher) unit(ctx context.Context) {
	b.mu.Lock()
	n := min(len(b.waiting), b.batch)
	unit := append([]*delivery(nil), b.waiting[:n]...)
	b.waiting = append(b.waiting[:0], b.waiting[n:]...)
	for _, d := range unit {
		close(d.begun)
	}
	b.mu.Unlock()
	if n == 0 {
		return
	}
	batch := make([]ce.Event, n)
	for i, d := range unit {
		batch[i] = d.event
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.limit)
	defer cancel()
	for i, res := range b.handle(ctx, batch) {
		unit[i].done <- res
	}
}

// remove removes a delivery that no unit contains.
func (b *batcher) remove(d *delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, w := range b.waiting {
		if w == d {
			b.waiting = append(b.waiting[:i], b.waiting[i+1:]...)
			return
		}
	}
}
