package knative

import (
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
	event   ce.Event
	at      time.Time // when it arrived
	done    chan broker.Result
	changed chan struct{} // has room for one: state is another now
	state   state         // guarded by inlet.mu
}

type state int

const (
	waiting state = iota
	taken         // a unit has it
	left          // its caller has gone away
)

// set changes the state and tells the caller. The inlet is locked.
func (d *delivery) set(s state) {
	d.state = s
	select {
	case d.changed <- struct{}{}:
	default:
	}
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
		mine[i] = &delivery{
			event: batch[i], at: time.Now(), done: make(chan broker.Result, 1), changed: make(chan struct{}, 1),
		}
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

// wait returns the result of one delivery. While no unit has it, the caller may be the one who begins the next.
func (in *inlet) wait(ctx context.Context, d *delivery) broker.Result {
	for {
		select {
		case res := <-d.done:
			return res
		case <-d.changed:
		case <-ctx.Done():
			in.leave(d)
			return broker.Result{Status: http.StatusServiceUnavailable, Message: "the delivery was given up"}
		case in.slotsFor(d) <- struct{}{}:
			in.unit(ctx)
			<-in.slots
		}
	}
}

// slotsFor returns the slots for the caller of a delivery that waits; nil for others.
func (in *inlet) slotsFor(d *delivery) chan struct{} {
	in.mu.Lock()
	defer in.mu.Unlock()
	if d.state == waiting {
		return in.slots
	}
	return nil
}

// unit handles what waits, at most one batch. It belongs to several callers, so that one who goes away does not end it.
// Events that the function hands back untried, because the time was up, wait for the next unit.
func (in *inlet) unit(ctx context.Context) {
	unit := in.begin()
	if len(unit) == 0 {
		return
	}
	batch := make([]ce.Event, len(unit))
	for i, d := range unit {
		batch[i] = d.event
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), in.deadline(unit[0]))
	defer cancel()
	var back []*delivery
	failed := map[string]bool{}
	for i, res := range in.receive(ctx, batch) {
		key := event.Extension(batch[i], event.PartitionKey)
		if res.Skipped && !failed[key] {
			back = append(back, unit[i])
			continue
		}
		failed[key] = key != "" && (failed[key] || !res.OK())
		unit[i].done <- res
	}
	in.handBack(back)
}

// deadline returns when a unit ends whose oldest delivery is first. The platform waits for each delivery from its
// arrival on, but a unit has half of that time at least: a shorter one would achieve nothing for the others.
func (in *inlet) deadline(first *delivery) time.Time {
	end, least := first.at.Add(in.limit), time.Now().Add(in.limit/2)
	if end.Before(least) {
		return least
	}
	return end
}

// begin takes what waits into a unit.
func (in *inlet) begin() []*delivery {
	in.mu.Lock()
	defer in.mu.Unlock()
	n := min(len(in.waiting), in.batch)
	unit := append([]*delivery(nil), in.waiting[:n]...)
	in.waiting = append(in.waiting[:0], in.waiting[n:]...)
	for _, d := range unit {
		d.set(taken)
	}
	return unit
}

// handBack puts deliveries in front of those that wait.
func (in *inlet) handBack(back []*delivery) {
	in.mu.Lock()
	defer in.mu.Unlock()
	back = slices.DeleteFunc(back, func(d *delivery) bool { return d.state == left })
	in.waiting = slices.Insert(in.waiting, 0, back...)
	for _, d := range back {
		d.set(waiting)
	}
}

// leave takes back a delivery whose caller has gone away, unless a unit has it.
func (in *inlet) leave(d *delivery) {
	in.mu.Lock()
	defer in.mu.Unlock()
	d.state = left
	in.waiting = slices.DeleteFunc(in.waiting, func(w *delivery) bool { return w == d })
}
