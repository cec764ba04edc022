package memqueue_test

import (
	"io"
	"log/slog"
	"sync"
	"testing"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/memqueue"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// A broker over queues keeps the whole contract of the port.
func TestBroker(t *testing.T) {
	var all sync.Map // broker → queues
	open := func(q *memqueue.Queues) broker.Broker {
		b := memqueue.Open(q, memqueue.Config{Logger: quiet})
		all.Store(b, q)
		return b
	}
	brokertest.Run(t, brokertest.Harness{
		New: func(testing.TB) broker.Broker { return open(memqueue.NewQueues(0)) },
		Reopen: func(_ testing.TB, b broker.Broker) broker.Broker {
			q, _ := all.Load(b)
			return open(q.(*memqueue.Queues))
		},
	})
}

func BenchmarkBroker(b *testing.B) {
	brokertest.Bench(b, func(b testing.TB) broker.Broker {
		br := memqueue.New(memqueue.Config{Logger: quiet})
		b.Cleanup(func() { br.Close(b.Context()) })
		return br
	})
}
