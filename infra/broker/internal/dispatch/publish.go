package dispatch

import (
	"context"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/fault"
)

// One entry holds at most so much, unless a single event is larger.
const (
	groupEvents = 256
	groupBytes  = 128 << 10
)

// appendTimeout bounds one append; a log that takes longer is not available.
const appendTimeout = 30 * time.Second

// submission is a part of one Publish call that waits to be appended.
type submission struct {
	events []event.Event
	bytes  int
	done   chan error
}

// MaxEvent implements broker.Limiter.
func (c *Core) MaxEvent() int { return c.opts.MaxEvent }

// Publish implements broker.Publisher. Calls that arrive while an append is under way are
// put together into the next one, so that they share its cost: one fsync for all of them.
func (c *Core) Publish(ctx context.Context, events ...event.Event) error {
	if len(events) == 0 {
		return nil
	}
	parts, err := c.split(events)
	if err != nil {
		return err
	}
	c.pubMu.Lock()
	if c.pubClosed {
		c.pubMu.Unlock()
		return errClosed
	}
	c.pending = append(c.pending, parts...)
	c.pubMu.Unlock()
	signal(c.submitted)
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

// split checks all events before any of them is taken, and cuts them into parts of at most a group.
func (c *Core) split(events []event.Event) ([]*submission, error) {
	part := &submission{done: make(chan error, 1), events: make([]event.Event, 0, min(len(events), groupEvents))}
	parts := []*submission{part}
	for i := range events {
		e, size, err := check(events[i], c.opts.MaxEvent)
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
func (c *Core) appendLoop() {
	defer close(c.appended)
	for {
		group, closed := c.takeGroup()
		if len(group) == 0 {
			if closed {
				return
			}
			<-c.submitted
			continue
		}
		c.appendGroup(group)
	}
}

// takeGroup takes what is pending, up to the size of one entry.
func (c *Core) takeGroup() (group []*submission, closed bool) {
	c.pubMu.Lock()
	defer c.pubMu.Unlock()
	n, events, bytes := 0, 0, 0
	for _, s := range c.pending {
		events += len(s.events)
		bytes += s.bytes
		if n > 0 && (events > groupEvents || bytes > groupBytes) {
			break
		}
		n++
	}
	group = c.pending[:n:n]
	if c.pending = c.pending[n:]; len(c.pending) == 0 {
		c.pending = nil
	}
	return group, c.pubClosed
}

func (c *Core) appendGroup(group []*submission) {
	events := group[0].events
	if len(group) > 1 {
		events = make([]event.Event, 0, 2*len(group))
		for _, s := range group {
			events = append(events, s.events...)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), appendTimeout)
	pos, err := c.log.Append(ctx, events)
	cancel()
	if err != nil {
		err = fault.Wrap(err, fault.Unavailable, "the broker's log does not take events just now")
	}
	if err == nil {
		c.settle.appended.Store(pos) // before anybody asks for his place
	}
	for _, s := range group {
		s.done <- err
	}
	if err != nil {
		return
	}
	signal(c.hub.grown)
	if c.opts.Observer != nil {
		c.opts.Observer.Published(len(events))
	}
	if pos > c.lastTrim.Load()+trimEvery {
		signal(c.dirty)
	}
}

// signal wakes the one reader of ch; a reader that is awake already will look again.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
