package nats_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/nats"
)

// threeServers starts a cluster of three servers and returns them with the URL of all.
func threeServers(t *testing.T) (servers []*server.Server, address string) {
	t.Helper()
	var ports [3]int
	var listeners []net.Listener
	var routes []*url.URL
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
		ports[i] = l.Addr().(*net.TCPAddr).Port
		routes = append(routes, &url.URL{Scheme: "nats", Host: l.Addr().String()})
	}
	for i, l := range listeners {
		l.Close()
		opts := &server.Options{
			ServerName: fmt.Sprint("s", i), Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(),
			NoSigs: true, NoLog: true, Routes: routes,
			Cluster: server.ClusterOpts{Name: "three", Host: "127.0.0.1", Port: ports[i]},
		}
		s, err := server.NewServer(opts)
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, s)
	}
	return servers, startAll(t, servers)
}

// startAll starts the servers and returns the URL of all when they have elected a leader.
func startAll(t *testing.T, servers []*server.Server) string {
	t.Helper()
	for _, s := range servers {
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	}
	var urls []string
	for _, s := range servers {
		if !s.ReadyForConnections(10 * time.Second) {
			t.Fatal("a server does not start")
		}
		urls = append(urls, s.ClientURL())
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		led := false
		for _, s := range servers {
			led = led || s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(servers)
		}
		if led {
			return strings.Join(urls, ",")
		}
		if time.Now().After(end) {
			t.Fatal("the cluster elects no leader")
		}
	}
}

// One of three servers goes away under load, and it is the one that leads: with three replicas every event whose
// Publish has returned is delivered, and those of a key come in order.
func TestServerOfClusterLost(t *testing.T) {
	servers, address := threeServers(t)
	b := open(t, nats.Config{URL: address, Stream: "three", Replicas: 3})
	var mu sync.Mutex
	var seen []string
	if _, err := b.Subscribe(t.Context(), broker.Trigger{Name: "x", Batch: 10},
		func(_ context.Context, batch []ce.Event) []broker.Result {
			mu.Lock()
			defer mu.Unlock()
			out := make([]broker.Result, len(batch))
			for i := range batch {
				seen = append(seen, batch[i].ID())
				out[i].Status = 200
			}
			return out
		}); err != nil {
		t.Fatal(err)
	}
	const keys, each = 6, 100
	var acked atomic.Int64
	var wg sync.WaitGroup
	for k := range keys {
		wg.Go(func() {
			for n := range each {
				e := brokertest.Event(fmt.Sprintf("%d-%03d", k, n), fmt.Sprint(k))
				for b.Publish(t.Context(), e) != nil && t.Context().Err() == nil {
					time.Sleep(time.Millisecond)
				}
				acked.Add(1)
			}
		})
	}
	wait := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(60 * time.Second); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("waited in vain for %s: %d acknowledged, %d handled", what, acked.Load(), len(seen))
			}
		}
	}
	wait("some events", func() bool { return acked.Load() >= 200 })
	lost := slices.IndexFunc(servers, func(s *server.Server) bool {
		return s.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, "three")
	})
	servers[max(lost, 0)].Shutdown()
	wg.Wait()
	wait("all events", func() bool {
		mu.Lock()
		defer mu.Unlock()
		ids := slices.Sorted(slices.Values(seen))
		return len(slices.Compact(ids)) == keys*each
	})
	mu.Lock()
	defer mu.Unlock()
	first, last := map[string]bool{}, map[string]string{}
	for _, id := range seen {
		if key := id[:1]; !first[id] { // one that comes again may do so after later ones
			if id < last[key] {
				t.Errorf("%s came after %s", id, last[key])
			}
			first[id], last[key] = true, id
		}
	}
}
