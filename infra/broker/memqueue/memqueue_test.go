package memqueue_test

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"testing"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue"
	"github.com/ebb-dev/ebb/infra/broker/memqueue"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// A broker over queues keeps the whole contract of the port.
func TestBroker(t *testing.T) {
	type state struct {
		product *product
		wire    *wire
	}
	var all sync.Map // broker → state
	open := func(p *product) broker.Broker {
		w := &wire{Driver: p, dead: make(chan struct{})}
		b := eventqueue.New(w, eventqueue.Options{Logger: quiet})
		all.Store(b, state{p, w})
		return b
	}
	of := func(b broker.Broker) state {
		s, _ := all.Load(b)
		return s.(state)
	}
	brokertest.Run(t, brokertest.Harness{
		New: func(testing.TB) broker.Broker {
			return open(&product{Driver: memqueue.NewQueues(0), lost: map[string]int{}})
		},
		Reopen: func(_ testing.TB, b broker.Broker) broker.Broker { return open(of(b).product) },
		Kill: func(_ testing.TB, b broker.Broker) broker.Broker {
			of(b).wire.cut()
			of(b).product.disconnect()
			now, cancel := context.WithCancel(context.Background())
			cancel()
			b.Close(now)
			return open(of(b).product)
		},
	})
}

// product gives back what a process holds as soon as it is gone, and counts that, as RabbitMQ does.
type product struct {
	eventqueue.Driver
	mu   sync.Mutex
	held []holding
	lost map[string]int // by the event's id
}

type holding struct {
	queue   eventqueue.Queue
	receipt string
	id      string
}

func (p *product) Open(ctx context.Context, trigger string) (eventqueue.Queue, error) {
	q, err := p.Driver.Open(ctx, trigger)
	return &countingQueue{q, p}, err
}

// disconnect gives back everything that is held.
func (p *product) disconnect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.held {
		lost, _ := h.queue.Extend(context.Background(), []string{h.receipt})
		if len(lost) == 0 {
			p.lost[h.id]++
		}
		h.queue.Nack(context.Background(), []string{h.receipt}, 0)
	}
	p.held = nil
}

type countingQueue struct {
	eventqueue.Queue
	product *product
}

func (q *countingQueue) Receive(ctx context.Context, limit int) ([]eventqueue.Message, error) {
	messages, err := q.Queue.Receive(ctx, limit)
	q.product.mu.Lock()
	defer q.product.mu.Unlock()
	for i, m := range messages {
		q.product.held = append(q.product.held, holding{q.Queue, m.Receipt, m.Event.ID()})
		messages[i].Lost += q.product.lost[m.Event.ID()]
	}
	return messages, err
}

func BenchmarkBroker(b *testing.B) {
	brokertest.Bench(b, func(b testing.TB) broker.Broker {
		br := memqueue.New(memqueue.Config{Logger: quiet})
		b.Cleanup(func() { br.Close(b.Context()) })
		return br
	})
}
