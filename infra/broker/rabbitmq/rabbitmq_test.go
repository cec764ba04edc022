package rabbitmq_test

import (
	"context"
	"errors"
	"fmt"
	"io"

	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue/queuetest"
	"github.com/ebb-dev/ebb/infra/broker/rabbitmq"
	"github.com/ebb-dev/ebb/infra/broker/rabbitmq/rabbitmqtest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// shared is the server of all tests of this package, which starts with the first of them.
var shared struct {
	once   sync.Once
	server *rabbitmqtest.Server
	err    error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.server != nil {
		shared.server.Remove()
	}
	os.Exit(code)
}

func server(t testing.TB) *rabbitmqtest.Server {
	t.Helper()
	shared.once.Do(func() { shared.server, shared.err = rabbitmqtest.Start() })
	if errors.Is(shared.err, rabbitmqtest.ErrAbsent) {
		t.Skip(shared.err)
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

var names atomic.Int64

// name returns the name of a broker that no other test has.
func name() string { return fmt.Sprint("test-", names.Add(1)) }

func open(t testing.TB, cfg rabbitmq.Config) *rabbitmq.Broker {
	t.Helper()
	cfg.URL, cfg.Logger = server(t).URL(), quiet
	b, err := rabbitmq.Open(context.Background(), cfg)
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

// The driver passes the suite of the port, with one queue per trigger and with several.
func TestBroker(t *testing.T) {
	for _, shards := range []int{1, 3} {
		t.Run(fmt.Sprint(shards, " shards"), func(t *testing.T) {
			var all sync.Map // broker → its name
			open := func(t testing.TB, name string) broker.Broker {
				b := open(t, rabbitmq.Config{Name: name, Shards: shards})
				all.Store(b, name)
				return b
			}
			again := func(t testing.TB, b broker.Broker) broker.Broker {
				name, _ := all.Load(b)
				return open(t, name.(string))
			}
			brokertest.Run(t, brokertest.Harness{
				New:    func(t testing.TB) broker.Broker { return open(t, name()) },
				Reopen: again,
				Kill: func(t testing.TB, b broker.Broker) broker.Broker {
					rabbitmq.Kill(b.(*rabbitmq.Broker))
					return again(t, b)
				},
			})
		})
	}
}

// The driver passes the suite of queues with acknowledgements.
func TestQueues(t *testing.T) {
	queuetest.Run(t, queuetest.Harness{
		New: func(t testing.TB, _ time.Duration) eventqueue.Driver {
			return rabbitmq.Driver(open(t, rabbitmq.Config{Name: name()}))
		},
		Visibility: 200 * time.Millisecond, Connected: true,
	})
}
