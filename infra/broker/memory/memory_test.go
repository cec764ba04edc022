package memory_test

import (
	"sync"
	"testing"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/memory"
)

func TestBroker(t *testing.T) {
	var logs sync.Map // broker → log
	open := func(log *memory.Log) broker.Broker {
		b := memory.Open(log)
		logs.Store(b, log)
		return b
	}
	brokertest.Run(t, brokertest.Harness{
		New: func(testing.TB) broker.Broker { return open(memory.NewLog()) },
		Reopen: func(_ testing.TB, b broker.Broker) broker.Broker {
			log, _ := logs.Load(b)
			return open(log.(*memory.Log))
		},
	})
}

func BenchmarkBroker(b *testing.B) {
	brokertest.Bench(b, func(b testing.TB) broker.Broker {
		br := memory.New()
		b.Cleanup(func() { br.Close(b.Context()) })
		return br
	})
}
