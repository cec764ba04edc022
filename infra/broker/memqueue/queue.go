package memqueue

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue"
)

// queue is the queue of one trigger. Each message stands in the group of its partition key, and one without a key in a
// group of its own. A group is ready when it has messages and none of them is held.
type queue struct {
	visibility time.Duration

	mu       sync.Mutex
	groups   map[string]*group
	ready    []*group
	held     map[string]*message // by receipt
	receipts uint64              // how many were given out
	grown    chan struct{}       // closed when a group becomes ready, and then replaced
}

type group struct {
	key      string
	messages []*message // in order
	held     int        // how many of them are held, or wait for the delay of Nack
}

type message struct {
	event   event.Event
	group   *group
	receipt string // "": not held
	until   time.Time
	timer   *time.Timer // ends the hold, or the delay
	lost    int         // how often the hold ended by its visibility
	tries   delivery.Tries
}

var _ eventqueue.Queue = (*queue)(nil)

func newQueue(visibility time.Duration) *queue {
	return &queue{
		visibility: visibility, groups: make(map[string]*group), held: make(map[string]*message),
		grown: make(chan struct{}),
	}
}

func (q *queue) put(events []event.Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range events {
		key := delivery.PartitionKey(&e)
		g := q.groups[key]
		if g == nil {
			g = &group{key: key}
			if key != "" {
				q.groups[key] = g
			}
		}
		g.messages = append(g.messages, &message{event: e, group: g})
		if len(g.messages) == 1 {
			q.makeReady(g)
		}
	}
}

func (q *queue) makeReady(g *group) {
	q.ready = append(q.ready, g)
	close(q.grown)
	q.grown = make(chan struct{})
}

// Receive implements eventqueue.Queue.
func (q *queue) Receive(ctx context.Context, limit int) ([]eventqueue.Message, error) {
	for ctx.Err() == nil {
		q.mu.Lock()
		out, grown := q.handOut(limit), q.grown
		q.mu.Unlock()
		if len(out) > 0 {
			return out, nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
		}
	}
	return nil, ctx.Err()
}

// handOut holds messages of ready groups. The queue is locked.
func (q *queue) handOut(limit int) (out []eventqueue.Message) {
	for len(q.ready) > 0 && len(out) < limit {
		g := q.ready[0]
		q.ready[0] = nil
		q.ready = q.ready[1:]
		for _, m := range g.messages[:min(len(g.messages), limit-len(out))] {
			q.hold(m)
			out = append(out, eventqueue.Message{Receipt: m.receipt, Event: m.event, Lost: m.lost, Tries: m.tries})
		}
	}
	return out
}

func (q *queue) hold(m *message) {
	q.receipts++
	m.receipt = strconv.FormatUint(q.receipts, 10)
	q.held[m.receipt] = m
	m.group.held++
	q.waitUntil(m, q.visibility)
}

// waitUntil makes the message come again after d, unless it is deleted or waits for something else by then.
func (q *queue) waitUntil(m *message, d time.Duration) {
	if m.timer != nil {
		m.timer.Stop()
	}
	m.until = time.Now().Add(d)
	m.timer = time.AfterFunc(d, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if m.timer != nil && time.Until(m.until) <= 0 {
			if m.receipt != "" {
				m.lost++
			}
			q.comeAgain(m)
		}
	})
}

// comeAgain makes a message one that is not held.
func (q *queue) comeAgain(m *message) {
	delete(q.held, m.receipt)
	m.receipt, m.timer = "", nil
	q.release(m.group)
}

// release counts one message of the group less as held.
func (q *queue) release(g *group) {
	if g.held--; g.held > 0 {
		return
	}
	if len(g.messages) > 0 {
		q.makeReady(g)
	} else {
		delete(q.groups, g.key)
	}
}

// Ack implements eventqueue.Queue.
func (q *queue) Ack(_ context.Context, receipts []string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, receipt := range receipts {
		m := q.held[receipt]
		if m == nil {
			continue
		}
		m.timer.Stop()
		m.timer = nil
		delete(q.held, receipt)
		i := slices.Index(m.group.messages, m)
		m.group.messages = slices.Delete(m.group.messages, i, i+1)
		q.release(m.group)
	}
	return nil
}

// Nack implements eventqueue.Queue.
func (q *queue) Nack(_ context.Context, receipts []string, delay time.Duration) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, receipt := range receipts {
		m := q.held[receipt]
		switch {
		case m == nil:
		case delay > 0:
			delete(q.held, receipt)
			m.receipt = ""
			q.waitUntil(m, delay)
		default:
			m.timer.Stop()
			q.comeAgain(m)
		}
	}
	return nil
}

// SetTries implements eventqueue.Queue.
func (q *queue) SetTries(_ context.Context, tries map[string]delivery.Tries) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for receipt, t := range tries {
		if m := q.held[receipt]; m != nil {
			m.tries = t
		}
	}
	return nil
}

// Extend implements eventqueue.Queue.
func (q *queue) Extend(_ context.Context, receipts []string) (lost []string, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, receipt := range receipts {
		if m := q.held[receipt]; m != nil {
			q.waitUntil(m, q.visibility)
		} else {
			lost = append(lost, receipt)
		}
	}
	return lost, nil
}

// Visibility implements eventqueue.Queue.
func (q *queue) Visibility() time.Duration { return q.visibility }

// Close implements eventqueue.Queue. What is still held comes again when its visibility has run out.
func (q *queue) Close() error { return nil }
