package memqueue

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue"
)

// Queues holds the queues of all triggers. It outlives the brokers that use it. Its methods may be called concurrently.
type Queues struct {
	visibility time.Duration
	mu         sync.RWMutex
	queues     map[string]*queue
}

var _ eventqueue.Driver = (*Queues)(nil)

// NewQueues makes Queues without triggers. A message that is received is held for the visibility; 0: 30 s.
func NewQueues(visibility time.Duration) *Queues {
	if visibility == 0 {
		visibility = 30 * time.Second
	}
	return &Queues{visibility: visibility, queues: make(map[string]*queue)}
}

// Publish implements eventqueue.Driver.
func (d *Queues) Publish(_ context.Context, events []event.Event) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, q := range d.queues {
		q.put(events)
	}
	return nil
}

// Declare implements eventqueue.Driver.
func (d *Queues) Declare(_ context.Context, trigger string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.queues[trigger] == nil {
		d.queues[trigger] = newQueue(d.visibility)
	}
	return nil
}

// Open implements eventqueue.Driver.
func (d *Queues) Open(_ context.Context, trigger string) (eventqueue.Queue, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if q := d.queues[trigger]; q != nil {
		return q, nil
	}
	return nil, fmt.Errorf("trigger %q has no queue", trigger)
}

// Drop implements eventqueue.Driver.
func (d *Queues) Drop(_ context.Context, trigger string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.queues, trigger)
	return nil
}

// Close implements eventqueue.Driver. The queues stay for the next broker.
func (d *Queues) Close() error { return nil }
