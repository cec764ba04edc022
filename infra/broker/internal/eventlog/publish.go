package eventlog

import (
	"context"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
	"github.com/ebb-dev/ebb/infra/fault"
)

// One entry holds at most so much, unless a single event is larger.
const (
	groupEvents = 256
	groupBytes  = 128 << 10
)

// appendTimeout bounds one append. A log that takes longer is unavailable.
const appendTimeout = 30 * time.Second

// submission is a part of one Publish call that waits to be appended.
type submission struct {
	events []event.Event
	bytes  int
	done   chan error
}

// MaxEvent implements broker.Limiter.
func (b *Broker) MaxEvent() int { return b.opts.MaxEvent }

// Publish implements broker.Publisher. Calls that arrive while an append is under way are
// put together into the next one, so that they share its cost: one fsync for all of them.
func (b *Broker) Publish(ctx context.Context, events ...event.Event) error {
	if len(events) == 0 {
		return nil
	}
	parts, err := b.split(events)
	if err != nil {
		return err
	}
	b.pubMu.Lock()
	if b.pubClosed {
		b.pubMu.Unlock()
		return delivery.ErrClosed
	}
	b.pending = append(b.pending, parts...)
	b.pubMu.Unlock()
	delivery.Signal(b.submitted)
	for _, part := range parts {
		select {
		case err := <-part.done:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return fault.Wrap(ctx.Err(), fault.KindOf(ctx.Err()), "publishing was given up; the events may have been taken")
		}
	}
	return nil
}

// split checks all events before any of them is taken, and returns them in parts of at most a group each.
func (b *Broker) split(events []event.Event) ([]*submission, error) {
	part := &submission{done: make(chan error, 1), events: make([]event.Event, 0, min(len(events), groupEvents))}
	parts := []*submission{part}
	for i := range events {
		e, size, err := delivery.CheckEvent(events[i], b.opts.MaxEvent)
		if err != nil {
			return nil, err
		}
		if len(part.events) > 0 && (len(part.events) == groupEvents || part.bytes+size > groupBytes) {
			part = &submission{done: make(chan error, 1)}
			parts = append(parts, part)
		}
		part.events = append(part.events, e)
		part.bytes += size
	}
	return parts, nil
}

// appendLoop writes groups until publishing is closed and nothing is pending.
func (b *Broker) appendLoop() {
	defer close(b.appended)
	for {
		group, closed := b.takeGroup()
		if len(group) == 0 {
			if closed {
				return
			}
			<-b.submitted
			continue
		}
		b.appendGroup(group)
	}
}

// takeGroup takes what is pending, up to the size of one entry, and reports whether publishing is closed.
func (b *Broker) takeGroup() (group []*submission, closed bool) {
	b.pubMu.Lock()
	defer b.pubMu.Unlock()
	n, events, bytes := 0, 0, 0
	for _, s := range b.pending {
		events += len(s.events)
		bytes += s.bytes
		if n > 0 && (events > groupEvents || bytes > groupBytes) {
			break
		}
		n++
	}
	group = b.pending[:n:n]
	if b.pending = b.pending[n:]; len(b.pending) == 0 {
		b.pending = nil
	}
	return group, b.pubClosed
}

func (b *Broker) appendGroup(group []*submission) {
	events := group[0].events
	if len(group) > 1 {
		events = make([]event.Event, 0, 2*len(group))
		for _, s := range group {
			events = append(events, s.events...)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), appendTimeout)
	pos, err := b.log.Append(ctx, events)
	cancel()
	if err != nil {
		err = fault.Wrap(err, fault.Unavailable, "the broker's log does not take events just now")
	}
	if err == nil {
		b.flush.appended.Store(pos) // before a publisher asks for its offset
	}
	for _, s := range group {
		s.done <- err
	}
	if err != nil {
		return
	}
	delivery.Signal(b.reader.grown)
	if b.opts.Observer != nil {
		b.opts.Observer.Published(len(events))
	}
	if pos > b.lastTrim.Load()+trimEvery {
		delivery.Signal(b.dirty)
	}
}

func (b *Broker) stopPublishing() {
	b.pubMu.Lock()
	b.pubClosed = true
	b.pubMu.Unlock()
	delivery.Signal(b.submitted)
	<-b.appended
}
