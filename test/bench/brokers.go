package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/ebb-dev/ebb/test/shop"
)

// brokers measures orders a second with each broker outside the process against the embedded one, one after the other.
// The servers of NATS and Kafka, which is a fake, run in this process, and so beside the load generator.
func (b *bench) brokers(ctx context.Context) error {
	own, err := b.ordersBy(ctx, "embedded", "")
	if err != nil {
		return err
	}
	b.add("orders to confirmed, NATS embedded", fmt.Sprintf("%.0f/s", own), "", b.brokerLoad())
	for _, product := range []struct {
		name, reach, how string
		start            func(ctx context.Context, dir string) (url string, stop func(), err error)
	}{
		{"NATS outside", "≥ 0.5 × embedded", "one server, its default sync", startNATS},
		{"Redis", "≥ 0.5 × embedded", "appendfsync everysec", startRedis},
		{"Kafka (fake)", "≥ 0.5 × embedded", "kfake, in memory, 4 partitions", startKafka},
	} {
		dir := filepath.Join(b.dir, "broker "+product.name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		url, stop, err := product.start(ctx, dir)
		if errors.Is(err, exec.ErrNotFound) {
			b.add("orders to confirmed, "+product.name, "not measured", product.reach, "its server is not installed")
			continue
		}
		if err != nil {
			return err
		}
		rate, err := b.ordersBy(ctx, product.name, url)
		stop()
		if err != nil {
			return fmt.Errorf("%s: %w", product.name, err)
		}
		figure := fmt.Sprintf("%.0f/s, %.2f ×", rate, rate/own)
		b.add("orders to confirmed, "+product.name, figure, product.reach, product.how)
	}
	return nil
}

func (b *bench) brokerLoad() string {
	return fmt.Sprintf("%d customers in a closed loop for %s with each broker", b.customers, b.duration/2)
}

// ordersBy returns the orders a second of a fresh shop with the broker at the URL; "": the embedded one.
func (b *bench) ordersBy(ctx context.Context, name, url string) (float64, error) {
	p := &shop.Process{}
	if url != "" {
		p.Env = []string{"EBB_BROKER=" + url}
	}
	if _, err := b.begin(ctx, "orders by "+name, p); err != nil {
		return 0, err
	}
	defer p.Kill()
	c, err := b.crowd(ctx, p, b.customers)
	if err != nil {
		return 0, err
	}
	if _, _, err := c.closed(ctx, b.customers, 3*time.Second, 0); err != nil {
		return 0, err
	}
	n, took, err := c.closed(ctx, b.customers, b.duration/2, 0)
	if err != nil {
		return 0, err
	}
	if err := c.awaitShipped(ctx); err != nil {
		return 0, err
	}
	return float64(n) / took.Seconds(), p.Stop(ctx)
}

func startNATS(_ context.Context, dir string) (string, func(), error) {
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true,
	})
	if err != nil {
		return "", nil, err
	}
	s.Start()
	stop := func() { s.Shutdown(); s.WaitForShutdown() }
	if !s.ReadyForConnections(10 * time.Second) {
		stop()
		return "", nil, errors.New("the NATS server does not start")
	}
	return s.ClientURL(), stop, nil
}

func startKafka(context.Context, string) (string, func(), error) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		return "", nil, err
	}
	return "kafka://" + c.ListenAddrs()[0] + "?partitions=4", c.Close, nil
}

func startRedis(ctx context.Context, dir string) (string, func(), error) {
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "everysec")
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop := func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	for {
		c, err := net.Dial("unix", socket)
		if err == nil {
			_ = c.Close()
			return "redis+unix:" + socket, stop, nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			stop()
			return "", nil, ctx.Err()
		}
	}
}
