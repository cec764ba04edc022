// Package brokers_test runs the shop with each broker that logs events, and kills the broker while orders are placed.
package brokers_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/ebb-dev/ebb/infra/broker/rabbitmq/rabbitmqtest"
	"github.com/ebb-dev/ebb/infra/broker/sqs/sqstest"
	"github.com/ebb-dev/ebb/infra/ratelimit/redis/redistest"
	"github.com/ebb-dev/ebb/test/shop"
)

func TestMain(m *testing.M) {
	code := m.Run()
	sqstest.Stop()
	os.Exit(code)
}

var (
	orders = flag.Int("orders", 60, "orders that are placed while the broker is killed")
	kills  = flag.Int("kills", 2, "how often the broker is killed while they are placed")
)

// product is a broker that the shop reaches by a URL.
type product struct {
	url     string
	stop    func() // as suddenly as it can be done
	restart func() // with its data and at the same address
	declare func() // when the triggers are declared; nil: nothing is to be done
	env     []string

	// drained waits until no message waits in the broker; nil: the shop itself knows when none does.
	drained func(ctx context.Context) error
}

// products lists what starts each broker. The server of Kafka is a fake, and it and that of NATS run in this process;
// Redis and RabbitMQ are servers that are killed with SIGKILL.
var products = map[string]func(t *testing.T) product{
	"redis": func(t *testing.T) product {
		s := redistest.Start(t, redistest.Durable...)
		url := "redis+unix:" + strings.TrimPrefix(s.URL(), "unix://")
		return product{url: url, stop: s.Stop, restart: func() { s.Restart(t) }}
	},
	"rabbitmq": func(t *testing.T) product {
		s, err := rabbitmqtest.Start()
		if errors.Is(err, rabbitmqtest.ErrAbsent) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Remove)
		restart := func() {
			if err := s.Restart(); err != nil {
				t.Fatal(err)
			}
		}
		// A RabbitMQ that is killed soon after a quorum queue was declared may not find the queue's log again: the table
		// with its name is a file of Erlang's dets, which has not been written yet. Closing the files writes it.
		return product{url: s.URL(), stop: s.Kill, restart: restart, declare: func() { s.Stop(); restart() }}
	},
	"sqs": sqs,
	"kafka": func(t *testing.T) product {
		dir, address := t.TempDir(), address(t)
		var port int
		if _, err := fmt.Sscanf(address, "127.0.0.1:%d", &port); err != nil {
			t.Fatal(err)
		}
		var c *kfake.Cluster
		start := func() {
			var err error
			c, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(dir), kfake.SyncWrites())
			if err != nil {
				t.Fatal(err)
			}
		}
		start()
		t.Cleanup(func() { c.Close() })
		return product{url: "kafka://" + address + "?partitions=4", stop: func() { c.Close() }, restart: start}
	},
	"nats": func(t *testing.T) product {
		dir, address := t.TempDir(), address(t)
		var port int
		if _, err := fmt.Sscanf(address, "127.0.0.1:%d", &port); err != nil {
			t.Fatal(err)
		}
		var s *server.Server
		start := func() {
			var err error
			s, err = server.NewServer(&server.Options{
				Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true,
			})
			if err != nil {
				t.Fatal(err)
			}
			s.Start()
			if !s.ReadyForConnections(10 * time.Second) {
				t.Fatal("the NATS server does not start")
			}
		}
		stop := func() { s.Shutdown(); s.WaitForShutdown() }
		start()
		t.Cleanup(func() { stop() })
		return product{url: "nats://" + address, stop: stop, restart: start}
	},
}

// sqs returns SNS and SQS on the emulator, which forgets what it has when it dies. AWS does not: so what is stopped is
// the way to it, for longer than messages are hidden.
func sqs(t *testing.T) product {
	sqstest.Need(t)
	emulator, err := url.Parse(os.Getenv("AWS_ENDPOINT_URL"))
	if err != nil {
		t.Fatal(err)
	}
	way := &forwarder{address: address(t), to: emulator.Host}
	way.open(t)
	t.Cleanup(way.cut)
	const visibility = 2 * time.Second
	return product{
		url: fmt.Sprintf("sqs:?name=shop&wait=0&visibility=%d&blobs=file:%s", int(visibility.Seconds()), t.TempDir()),
		env: []string{"AWS_ENDPOINT_URL=http://" + way.address}, drained: func(ctx context.Context) error {
			return sqstest.Drained(ctx, "shop-")
		},
		stop: func() { way.cut(); time.Sleep(visibility + time.Second) }, restart: func() { way.open(t) },
	}
}

// forwarder carries connections to a server, until the way is cut.
type forwarder struct {
	address, to string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
}

func (f *forwarder) open(t *testing.T) {
	l, err := net.Listen("tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.listener, f.conns = l, map[net.Conn]bool{}
	f.mu.Unlock()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f.carry(c)
		}
	}()
}

func (f *forwarder) carry(client net.Conn) {
	server, err := net.Dial("tcp", f.to)
	if err != nil {
		client.Close()
		return
	}
	f.mu.Lock()
	f.conns[client], f.conns[server] = true, true
	f.mu.Unlock()
	go func() {
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	_, _ = io.Copy(client, server)
	client.Close()
}

// cut ends all connections, and takes no more.
func (f *forwarder) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listener.Close()
	for c := range f.conns {
		c.Close()
	}
}

func address(t *testing.T) string {
	t.Helper()
	addr, err := shop.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// Orders with good, declined, failing and slow cards and too little stock, while the broker is killed and started
// again: every acknowledged order ends, nothing is charged, reserved or shipped twice, and no event ends as a dead
// letter.
func TestOrdersSurviveTheBroker(t *testing.T) {
	binary, err := shop.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, start := range products {
		t.Run(name, func(t *testing.T) { survive(t, binary, start(t)) })
	}
}

func survive(t *testing.T, binary string, broker product) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	p := &shop.Process{
		Binary: binary, Addr: address(t), Data: filepath.Join(t.TempDir(), "data"), Args: []string{"--idle", "100ms"},
		Env: []string{"EBB_PAYMENTS_SLOW=200ms", "EBB_CLOCK_SWEEP=2s", "EBB_BROKER=" + broker.url},
	}
	p.Env = append(p.Env, broker.env...)
	if _, err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	s, err := shop.NewSpree(ctx, p.URL())
	if err != nil {
		t.Fatal(err)
	}
	if broker.declare != nil {
		broker.declare()
	}
	err = s.PlaceAll(ctx, *orders, 16, func(n int) error {
		if *kills > 0 && n > 0 && n%(*orders/(*kills+1)) == 0 && n/(*orders/(*kills+1)) <= *kills {
			t.Logf("%d of %d orders are placed, the broker is killed", n, *orders)
			broker.stop()
			broker.restart()
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	t.Logf("all orders are placed; waiting for their ends")
	ended, err := s.AwaitEnds(ctx)
	if err != nil {
		t.Fatalf("%v\n%s", err, p.Output())
	}
	if broker.drained != nil {
		if err := broker.drained(ctx); err != nil {
			t.Fatalf("%v\n%s", err, p.Output())
		}
	}
	books, violations, err := s.StopAndAudit(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	if len(violations) > 0 {
		t.Errorf("%d violations:\n%s\n%s", len(violations), strings.Join(violations, "\n"), p.Output())
	}
	if n := len(s.Acknowledged()); n != *orders || ended["confirmed"] == 0 || books.DeadLetters > 0 {
		t.Errorf("got %d acknowledged of %d, ended %v, %d dead letters", n, *orders, ended, books.DeadLetters)
	}
	t.Logf("%d orders, the broker was killed %d times, ended %v", *orders, *kills, ended)
}
