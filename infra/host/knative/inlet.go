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

// inlet has deliveries that come side by side share units of work. Nothing runs while no delivery waits: whoever finds
// fewer units under way than may be begins one, for all that wait by then.
type inlet struct {
	receive func(context.Context, []ce.Event) []broker.Result
	batch   int           // the most events of one unit
	limit   time.Duration // of one unit

	slots chan struct{} // as many as units may run at once

	mu      sync.Mutex
	waiting []*delivery
}

// delivery is one event that waits for its result.
type delivery struct {
	event ce.Event
	begun chan struct{} // closed when a unit has it
	done  chan broker.Result
}

// units is how many units of work run at once at least, also of a function whose local trigger has one after the other: a unit
// waits for its publish, and a broker may let that wait for deliveries to this very function. The order of events is
// not the broker's promise here anyway, and instances run side by side; the store settles who was first.
const units = 8

func newInlet(f host.Instance, t broker.Trigger) *inlet {
	return &inlet{receive: f.Receive, batch: max(t.Batch, 1), limit: t.Delivery.Timeout, slots: make(chan struct{}, max(t.Concurrency, units))}
}

// take waits for the results of all events. A caller that goes away leaves them to the unit that they are part of.
func (in *inlet) take(ctx context.Context, batch []ce.Event) []broker.Result {
	mine := make([]*delivery, len(batch))
	for i := range batch {
		mine[i] = &delivery{batch[i], make(chan struct{}), make(chan broker.Result, 1)}
	}
	in.mu.Lock()
	in.waiting = append(in.waiting, mine...)
	in.mu.Unlock()
	results := make([]broker.Result, len(mine))
	for i, d := range mine {
		results[i] = in.wait(ctx, d)
	}
	return results
}

// wait is the result of one delivery. Until a unit has it, the caller may be the one who begins the next.
func (in *inlet) wait(ctx context.Context, d *delivery) broker.Result {
	slots := in.slots
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
			in.leave(d)
			return broker.Result{Status: http.StatusServiceUnavailable, Message: "the delivery was given up"}
		case slots <- struct{}{}:
			in.unit(ctx)
			<-in.slots
		}
	}
}

// unit handles what waits, at most one batch. It belongs to several callers, so that one who goes away does not end it.
func (in *inlet) unit(ctx context.Context) {
	in.mu.Lock()
	n := min(len(in.waiting), in.batch)
	unit := append([]*delivery(nil), in.waiting[:n]...)
	in.waiting = append(in.waiting[:0], in.waiting[n:]...)
	for _, d := range unit {
		close(d.begun)
	}
	in.mu.Unlock()
	if n == 0 {
		return
	}
	batch := make([]ce.Event, n)
	for i, d := range unit {
		batch[i] = d.event
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), in.limit)
	defer cancel()
	for i, res := range in.receive(ctx, batch) {
		unit[i].done <- res
	}
}

// leave takes a delivery back that no unit has begun.
func (in *inlet) leave(d *delivery) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for i, w := range in.waiting {
		if w == d {
			in.waiting = append(in.waiting[:i], in.waiting[i+1:]...)
			return
		}
	}
}
