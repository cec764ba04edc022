package kafka_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/kafka"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// fake starts a fake cluster in this process: the tests need no Kafka, and show nothing that only a real one does.
func fake(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func open(t testing.TB, cfg kafka.Config) *kafka.Broker {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet
	}
	if cfg.Partitions == 0 {
		cfg.Partitions = 3
	}
	b, err := kafka.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		b.Close(ctx)
	})
	return b
}

// The driver passes the suite with a fake cluster.
func TestBroker(t *testing.T) {
	seeds := fake(t).ListenAddrs()
	var names sync.Map // broker → topic
	var last atomic.Int64
	open := func(t testing.TB, name any) broker.Broker {
		b := open(t, kafka.Config{Seeds: seeds, Name: name.(string)})
		names.Store(b, name)
		return b
	}
	t.Run("suite", func(t *testing.T) {
		brokertest.Run(t, brokertest.Harness{
			New: func(t testing.TB) broker.Broker { return open(t, fmt.Sprint("test-", last.Add(1))) },
			Reopen: func(t testing.TB, b broker.Broker) broker.Broker {
				name, _ := names.Load(b)
				return open(t, name)
			},
			Kill: func(t testing.TB, b broker.Broker) broker.Broker {
				kafka.Kill(b.(*kafka.Broker))
				name, _ := names.Load(b)
				return open(t, name)
			},
		})
	})
}

func BenchmarkBroker(b *testing.B) {
	brokertest.Bench(b, func(b testing.TB) broker.Broker { return open(b, kafka.Config{Seeds: fake(b).ListenAddrs()}) })
}
