package nats_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/nats"
	_ "github.com/ebb-dev/ebb/infra/broker/nats/embedded"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func open(t testing.TB, cfg nats.Config) *nats.Broker {
	t.Helper()
	cfg.Logger = quiet
	b, err := nats.Open(context.Background(), cfg)
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

// The driver passes the suite with an embedded server.
func TestBroker(t *testing.T) {
	var dirs sync.Map // broker → directory
	open := func(t testing.TB, dir string) broker.Broker {
		b := open(t, nats.Config{Dir: dir})
		dirs.Store(b, dir)
		return b
	}
	brokertest.Run(t, brokertest.Harness{
		New: func(t testing.TB) broker.Broker { return open(t, t.TempDir()) },
		Reopen: func(t testing.TB, b broker.Broker) broker.Broker {
			dir, _ := dirs.Load(b)
			return open(t, dir.(string))
		},
		Kill: func(t testing.TB, b broker.Broker) broker.Broker {
			nats.Kill(b.(*nats.Broker))
			dir, _ := dirs.Load(b)
			return open(t, dir.(string))
		},
	})
}

// cluster starts a server that is reached over TCP, like an external cluster.
func cluster(t testing.TB) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	return s.ClientURL()
}

// The driver passes the suite with an external cluster.
func TestBrokerOnCluster(t *testing.T) {
	url := cluster(t)
	var streams sync.Map
	var mu sync.Mutex
	n := 0
	open := func(t testing.TB, stream string) broker.Broker {
		b := open(t, nats.Config{URL: url, Stream: stream})
		streams.Store(b, stream)
		return b
	}
	t.Run("suite", func(t *testing.T) {
		brokertest.Run(t, brokertest.Harness{
			New: func(t testing.TB) broker.Broker {
				mu.Lock()
				defer mu.Unlock()
				n++
				return open(t, fmt.Sprintf("test-%d", n))
			},
			Reopen: func(t testing.TB, b broker.Broker) broker.Broker {
				stream, _ := streams.Load(b)
				return open(t, stream.(string))
			},
			Kill: func(t testing.TB, b broker.Broker) broker.Broker {
				nats.Kill(b.(*nats.Broker))
				stream, _ := streams.Load(b)
				return open(t, stream.(string))
			},
		})
	})
}

// Two processes share a cluster: one of them serves a trigger, and the other takes over when the first stops.
func TestOtherProcessTakesOver(t *testing.T) {
	url := cluster(t)
	cfg := nats.Config{URL: url, Stream: "two", Lease: time.Second}
	first, second := open(t, cfg), open(t, cfg)
	seen := make(chan string, 100)
	handler := func(who string) broker.Handler {
		return func(_ context.Context, batch []ce.Event) []broker.Result {
			seen <- who + batch[0].ID()
			return []broker.Result{{Status: 200}}
		}
	}
	if _, err := first.Subscribe(t.Context(), broker.Trigger{Name: "x"}, handler("first ")); err != nil {
		t.Fatal(err)
	}
	expect := func(publisher *nats.Broker, id, want string) {
		t.Helper()
		if err := publisher.Publish(t.Context(), brokertest.Event(id, "k")); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-seen:
			if got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("waited in vain for %q", want)
		}
	}
	expect(first, "1", "first 1")
	if _, err := second.Subscribe(t.Context(), broker.Trigger{Name: "x"}, handler("second ")); err != nil {
		t.Fatal(err)
	}
	expect(second, "2", "first 2")
	time.Sleep(1500 * time.Millisecond) // longer than the lease: it is renewed
	expect(second, "3", "first 3")
	if err := first.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	expect(second, "4", "second 4")
}

// Every event whose Publish returned is delivered after the process is killed.
func TestKill(t *testing.T) {
	if dir := os.Getenv("EBB_TEST_NATS_CHILD"); dir != "" {
		publishForever(t, dir)
	}
	dir := t.TempDir()
	for round := range 3 {
		acked := killChild(t, dir, round)
		b := open(t, nats.Config{Dir: dir})
		var mu sync.Mutex
		got := map[string]bool{}
		sub, err := b.Subscribe(t.Context(), broker.Trigger{Name: "all", Batch: 100},
			func(_ context.Context, batch []ce.Event) []broker.Result {
				mu.Lock()
				defer mu.Unlock()
				out := make([]broker.Result, len(batch))
				for i := range batch {
					got[batch[i].ID()] = true
					out[i].Status = 200
				}
				return out
			})
		if err != nil {
			t.Fatal(err)
		}
		missing := 0
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			mu.Lock()
			missing = 0
			for _, id := range acked {
				if !got[id] {
					missing++
				}
			}
			mu.Unlock()
			if missing == 0 {
				break
			}
		}
		if missing > 0 {
			t.Fatalf("round %d: %d of %d acknowledged events were lost", round, missing, len(acked))
		}
		sub.Close()
		if err := b.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		t.Logf("round %d: %d acknowledged events, all delivered after the kill", round, len(acked))
	}
}

// killChild starts a child process that publishes, kills it, and returns the ids of the events whose Publish returned.
func killChild(t *testing.T, dir string, round int) (acked []string) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
	cmd.Env = append(os.Environ(), "EBB_TEST_NATS_CHILD="+dir, fmt.Sprintf("EBB_TEST_NATS_ROUND=%d", round))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "acked "); ok {
			acked = append(acked, id)
		}
		if len(acked) == 500 {
			cmd.Process.Kill()
		}
	}
	if len(acked) < 500 {
		t.Fatalf("the child published %d events only", len(acked))
	}
	return acked
}

// publishForever runs in the child. Its trigger always fails, so that no event is finished.
func publishForever(t *testing.T, dir string) {
	b, err := nats.Open(context.Background(), nats.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	never := broker.Delivery{Retry: 1, BackoffDelay: time.Hour}
	if _, err := b.Subscribe(t.Context(), broker.Trigger{Name: "all", Delivery: never},
		func(_ context.Context, batch []ce.Event) []broker.Result {
			return make([]broker.Result, len(batch))
		}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	for p := range 8 {
		go func() {
			for n := 0; ; n++ {
				id := fmt.Sprintf("%s-%d-%d", os.Getenv("EBB_TEST_NATS_ROUND"), p, n)
				if err := b.Publish(context.Background(), brokertest.Event(id, fmt.Sprint(p))); err != nil {
					return
				}
				mu.Lock()
				fmt.Println("acked", id)
				mu.Unlock()
			}
		}()
	}
	select {}
}

// An event that kills the process with SIGKILL is a dead letter after its attempts, and the events beside it are
// handled.
func TestPoisonKills(t *testing.T) {
	if dir := os.Getenv("EBB_TEST_NATS_POISONED"); dir != "" {
		handlePoison(t, dir)
	}
	dir, deaths, said := t.TempDir(), 0, map[string]bool{}
	for !said["dead poison 502"] {
		cmd := exec.Command(os.Args[0], "-test.run=^TestPoisonKills$")
		cmd.Env = append(os.Environ(), "EBB_TEST_NATS_POISONED="+dir)
		out, err := cmd.Output()
		for line := range strings.Lines(string(out)) {
			said[strings.TrimSpace(line)] = true
		}
		if cmd.ProcessState.Exited() && cmd.ProcessState.ExitCode() != 0 {
			t.Fatalf("the child failed: %v\n%s", err, out)
		}
		if !cmd.ProcessState.Exited() {
			deaths++
		}
		if deaths > 10 {
			t.Fatalf("%d processes were killed, and there is no dead letter", deaths)
		}
	}
	if deaths != poisonRetry+1 {
		t.Errorf("%d processes were killed, want %d", deaths, poisonRetry+1)
	}
	for _, id := range []string{"0", "1", "2", "behind"} {
		if !said["handled "+id] || said["dead "+id+" 502"] {
			t.Errorf("event %s was not handled: %v", id, said)
		}
	}
}

const poisonRetry = 3

// handlePoison runs in the child, until it is killed or everything has an end.
func handlePoison(t *testing.T, dir string) {
	b, err := nats.Open(t.Context(), nats.Config{Dir: dir, SyncInterval: time.Hour, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	dead := make(chan struct{})
	d := broker.Delivery{Retry: poisonRetry, BackoffDelay: time.Millisecond}
	d.DeadLetter = func(_ context.Context, batch []ce.Event) []broker.Result {
		fmt.Println("dead", batch[0].ID(), batch[0].Extensions()[broker.ErrorCode])
		close(dead)
		return []broker.Result{{Status: 200}}
	}
	behind := make(chan struct{})
	_, err = b.Subscribe(t.Context(), broker.Trigger{Name: "x", Batch: 4, Concurrency: 2, Delivery: d},
		func(_ context.Context, batch []ce.Event) []broker.Result {
			out := make([]broker.Result, len(batch))
			for i, e := range batch {
				if e.ID() == "poison" {
					syscall.Kill(os.Getpid(), syscall.SIGKILL)
					select {}
				}
				fmt.Println("handled", e.ID())
				if e.ID() == "behind" {
					close(behind)
				}
				out[i].Status = 200
			}
			return out
		})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "published")); err != nil {
		if err := os.WriteFile(filepath.Join(dir, "published"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		b.Publish(t.Context(), brokertest.Event("0", "k"), brokertest.Event("1", ""), brokertest.Event("poison", "k"),
			brokertest.Event("behind", "k"), brokertest.Event("2", ""))
	}
	<-dead
	<-behind
	b.Close(context.Background())
	os.Exit(0)
}

// BenchmarkBroker compares an fsync before each Publish returns with the sync interval of a plain NATS server.
func BenchmarkBroker(b *testing.B) {
	for name, interval := range map[string]time.Duration{"sync=always": 0, "sync=2m": 2 * time.Minute} {
		b.Run(name, func(b *testing.B) {
			brokertest.Bench(b, func(b testing.TB) broker.Broker {
				return open(b, nats.Config{Dir: b.TempDir(), SyncInterval: interval})
			})
		})
	}
}
