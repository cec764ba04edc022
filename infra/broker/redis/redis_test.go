package redis_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	goredis "github.com/redis/go-redis/v9"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/redis"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/ratelimit/redis/redistest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func open(t testing.TB, cfg redis.Config) *redis.Broker {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet
	}
	b, err := redis.Open(context.Background(), cfg)
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

// The driver passes the suite with a real server.
func TestBroker(t *testing.T) {
	url := redistest.Start(t, redistest.Durable...).URL()
	var names sync.Map // broker → name
	var last atomic.Int64
	open := func(t testing.TB, name any) broker.Broker {
		b := open(t, redis.Config{URL: url, Name: name.(string)})
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
				redis.Kill(b.(*redis.Broker))
				name, _ := names.Load(b)
				return open(t, name)
			},
		})
	})
}

// journal notes the ids of the events that a handler has taken.
type journal struct {
	mu   sync.Mutex
	seen []string
}

func (j *journal) handle(_ context.Context, batch []ce.Event) []broker.Result {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([]broker.Result, len(batch))
	for i := range batch {
		j.seen = append(j.seen, batch[i].ID())
		out[i].Status = 200
	}
	return out
}

func (j *journal) ids() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.seen)
}

// await waits until ok, and fails the test when that takes too long.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func subscribe(t testing.TB, b broker.Broker, trigger broker.Trigger, h broker.Handler) broker.Subscription {
	t.Helper()
	sub, err := b.Subscribe(t.Context(), trigger, h)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func publish(t testing.TB, b broker.Broker, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := b.Publish(t.Context(), brokertest.Event(id, "k")); err != nil {
			t.Fatal(err)
		}
	}
}

// A handler may take longer than the lease, which is renewed meanwhile: no other process gets its event. When the
// process stops, another takes over.
func TestHandlerLongerThanLease(t *testing.T) {
	url := redistest.Start(t).URL()
	const lease = 400 * time.Millisecond
	first, second := open(t, redis.Config{URL: url, Lease: lease}), open(t, redis.Config{URL: url, Lease: lease})
	begun, end := make(chan struct{}), make(chan struct{})
	var one, other journal
	subscribe(t, first, broker.Trigger{Name: "x"}, func(ctx context.Context, batch []ce.Event) []broker.Result {
		if batch[0].ID() == "1" {
			close(begun)
			<-end
		}
		return one.handle(ctx, batch)
	})
	publish(t, second, "1")
	<-begun
	subscribe(t, second, broker.Trigger{Name: "x"}, other.handle)
	left, renewals := time.Duration(0), 0
	await(t, "three times the lease", func() bool {
		now := redis.Client(second).PTTL(t.Context(), "{ebb}:lease:x").Val()
		if now > left {
			renewals++
		}
		left = now
		return renewals > 12
	})
	publish(t, second, "2")
	close(end)
	await(t, "both events", func() bool { return len(one.ids()) == 2 })
	if err := first.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	publish(t, second, "3")
	await(t, "the other process", func() bool { return len(other.ids()) > 0 })
	if got := fmt.Sprint(one.ids(), other.ids()); got != "[1 2] [3]" {
		t.Errorf("got %s", got)
	}
}

// A process that dies without a word loses its trigger after the lease, and what it had not finished comes to another.
func TestDeadProcessLosesLease(t *testing.T) {
	url := redistest.Start(t).URL()
	cfg := redis.Config{URL: url, Lease: 400 * time.Millisecond}
	first, second := open(t, cfg), open(t, cfg)
	begun, end := make(chan struct{}), make(chan struct{})
	subscribe(t, first, broker.Trigger{Name: "x"}, func(context.Context, []ce.Event) []broker.Result {
		close(begun)
		<-end
		return []broker.Result{{Status: 200}}
	})
	publish(t, second, "1", "2")
	<-begun
	redis.Client(first).Close()
	var other journal
	subscribe(t, second, broker.Trigger{Name: "x"}, other.handle)
	await(t, "both events", func() bool { return len(other.ids()) == 2 })
	close(end)
	if got := other.ids(); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("got %v", got)
	}
}

// The stream is trimmed, but not what the slowest trigger needs, which no process serves just now.
func TestTrimsBehindTheSlowest(t *testing.T) {
	b := open(t, redis.Config{URL: redistest.Start(t).URL()})
	var slow, fast journal
	subscribe(t, b, broker.Trigger{Name: "slow", Batch: 100}, slow.handle).Close()
	subscribe(t, b, broker.Trigger{Name: "fast", Batch: 100}, fast.handle)
	const events = 4000
	var want []string
	for i := range events {
		want = append(want, fmt.Sprint(i))
	}
	publish(t, b, want...)
	length := func() int64 { return redis.Client(b).XLen(t.Context(), "{ebb}:events").Val() }
	await(t, "the fast trigger", func() bool { return len(fast.ids()) == events })
	if n := length(); n != events {
		t.Errorf("%d entries are left, want all %d", n, events)
	}
	subscribe(t, b, broker.Trigger{Name: "slow", Batch: 100}, slow.handle)
	await(t, "the slow trigger", func() bool { return len(slow.ids()) == events })
	if !slices.Equal(slow.ids(), want) {
		t.Error("the slow trigger got its events out of order")
	}
	more := events
	await(t, "a shorter stream", func() bool {
		publish(t, b, fmt.Sprint(more))
		more++
		return length() < 3000
	})
}

// What an operator trims that was not finished is gone, which is logged; what was published after it is delivered.
func TestTrimmedWhileUnfinished(t *testing.T) {
	var log bytes.Buffer
	cfg := redis.Config{URL: redistest.Start(t).URL(), Logger: slog.New(slog.NewTextHandler(&log, nil))}
	b := open(t, cfg)
	failed := make(chan struct{}, 10)
	stuck := broker.Delivery{Retry: 1, BackoffDelay: time.Hour}
	subscribe(t, b, broker.Trigger{Name: "x", Delivery: stuck}, func(context.Context, []ce.Event) []broker.Result {
		failed <- struct{}{}
		return []broker.Result{{Status: 500}}
	})
	if err := b.Publish(t.Context(), brokertest.Event("1", "k"), brokertest.Event("2", "other")); err != nil {
		t.Fatal(err)
	}
	<-failed
	<-failed
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b = open(t, cfg)
	if err := redis.Client(b).XTrimMaxLen(t.Context(), "{ebb}:events", 0).Err(); err != nil {
		t.Fatal(err)
	}
	var j journal
	subscribe(t, b, broker.Trigger{Name: "x"}, j.handle)
	publish(t, b, "3")
	await(t, "the third event", func() bool { return len(j.ids()) > 0 })
	if got := j.ids(); !slices.Equal(got, []string{"3"}) {
		t.Errorf("got %v", got)
	}
	b.Close(context.Background())
	if !strings.Contains(log.String(), "unfinished events are gone from the log") ||
		!strings.Contains(log.String(), "trigger=x events=2") {
		t.Errorf("logged %s", &log)
	}
}

// An entry that is no event is passed over.
func TestStrangersEntry(t *testing.T) {
	var log bytes.Buffer
	b := open(t, redis.Config{URL: redistest.Start(t).URL(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	var j journal
	subscribe(t, b, broker.Trigger{Name: "x"}, j.handle)
	publish(t, b, "1")
	for _, values := range []any{[]string{"e", "no event"}, []string{"other", "field"}} {
		add := goredis.XAddArgs{Stream: "{ebb}:events", ID: "0-*", Values: values}
		if err := redis.Client(b).XAdd(t.Context(), &add).Err(); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, b, "2")
	await(t, "both events", func() bool { return len(j.ids()) == 2 })
	b.Close(context.Background())
	if strings.Count(log.String(), "is no event and is passed over") < 2 {
		t.Errorf("logged %s", &log)
	}
}

// Under load the server is killed and started again: what was acknowledged is delivered, in order.
func TestServerKilled(t *testing.T) {
	s := redistest.Start(t, redistest.Durable...)
	b := open(t, redis.Config{URL: s.URL(), Lease: time.Second})
	var j journal
	subscribe(t, b, broker.Trigger{Name: "x", Batch: 10}, j.handle)
	const publishers, each = 8, 250
	var acked atomic.Int64
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for n := range each {
				e := brokertest.Event(fmt.Sprintf("%d-%03d", p, n), fmt.Sprint(p))
				for b.Publish(t.Context(), e) != nil {
					time.Sleep(time.Millisecond)
				}
				acked.Add(1)
			}
		})
	}
	for _, at := range []int64{300, 900, 1500} {
		await(t, "some events", func() bool { return acked.Load() >= at })
		s.Stop()
		s.Restart(t)
	}
	wg.Wait()
	distinct := func() int {
		ids := j.ids()
		slices.Sort(ids)
		return len(slices.Compact(ids))
	}
	t.Cleanup(func() { t.Logf("%d of %d events came", distinct(), publishers*each) })
	await(t, "all events", func() bool { return distinct() == publishers*each })
	last := map[string]string{} // by key
	first := map[string]bool{}
	for _, id := range j.ids() {
		if key := id[:1]; !first[id] { // an event that comes again may do so after later ones
			if id < last[key] {
				t.Errorf("%s came after %s", id, last[key])
			}
			first[id], last[key] = true, id
		}
	}
}

// A server that comes back without its data gives no position twice: triggers that are being served get what is
// published next.
func TestServerWithoutItsData(t *testing.T) {
	s := redistest.Start(t)
	b := open(t, redis.Config{URL: s.URL(), Lease: 10 * time.Second})
	other := open(t, redis.Config{URL: s.URL()})
	var j journal
	subscribe(t, b, broker.Trigger{Name: "x"}, j.handle)
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprint(i))
	}
	publish(t, b, want...)
	await(t, "the first events", func() bool { return len(j.ids()) == len(want) })
	s.Stop()
	if err := b.Publish(t.Context(), brokertest.Event("away", "")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("without a server: got %v", err)
	}
	s.Restart(t)
	await(t, "the server", func() bool { return other.Publish(t.Context(), brokertest.Event("new", "k")) == nil })
	publish(t, other, "next")
	await(t, "the next events", func() bool { return len(j.ids()) == len(want)+2 })
	if got := j.ids(); !slices.Equal(got, append(want, "new", "next")) {
		t.Errorf("got %v", got)
	}
}

// After a server was started again positions have a large gap. The lag of a trigger that is behind it counts entries,
// and not positions: in a process that was there, and in one that comes later.
func TestLagAfterRestart(t *testing.T) {
	s := redistest.Start(t, redistest.Durable...)
	b := open(t, redis.Config{URL: s.URL(), Lease: time.Second})
	slow := make(chan struct{})
	t.Cleanup(func() { close(slow) })
	subscribe(t, b, broker.Trigger{Name: "x"}, func(context.Context, []ce.Event) []broker.Result {
		<-slow
		return nil
	})
	large := strings.Repeat("x", 1000<<10)
	const fill, behind = 40, 5 // the first ones are as much as a trigger holds unfinished
	for i := range fill + behind {
		e := brokertest.Event(fmt.Sprint(i), "k")
		if err := e.SetData("text/plain", large); err != nil {
			t.Fatal(err)
		}
		if err := b.Publish(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	s.Stop()
	s.Restart(t)
	await(t, "the server", func() bool { return b.Publish(t.Context(), brokertest.Event("new", "k")) == nil })
	check := func(b *redis.Broker) {
		t.Helper()
		var lag uint64
		await(t, "a lag", func() bool {
			for _, s := range b.Stats() {
				lag = s.Lag
			}
			return lag > behind
		})
		if lag > fill+behind+1 {
			t.Errorf("the lag is %d, with %d entries", lag, fill+behind+1)
		}
	}
	check(b)
	redis.Kill(b)
	later := open(t, redis.Config{URL: s.URL(), Lease: time.Second})
	subscribe(t, later, broker.Trigger{Name: "x"}, func(context.Context, []ce.Event) []broker.Result {
		<-slow
		return nil
	})
	check(later)
}

// Configurations that cannot work are refused with a clear sentence, which has no password.
func TestRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := l.Addr().String()
	l.Close()
	s := redistest.Start(t, "--requirepass", "right", "--maxmemory-policy", "allkeys-lru")
	for _, c := range []struct {
		cfg  redis.Config
		kind fault.Kind
		want string
	}{
		{redis.Config{}, fault.Invalid, "invalid URL"},
		{redis.Config{URL: "redos://user:secret@host"}, fault.Invalid, "invalid URL: want redis://"},
		{redis.Config{URL: "redis://user:secret@host:port"}, fault.Invalid, "invalid URL: want redis://"},
		{redis.Config{URL: "redis://h?nam=x"}, fault.Invalid, "invalid URL: want redis://"},
		{redis.Config{URL: "redis://h", Name: "a{b"}, fault.Invalid, `invalid name "a{b"`},
		{redis.Config{URL: "redis://h", MaxEvent: 1 << 30}, fault.Invalid, "nor the largest event over 8388608 bytes"},
		{redis.Config{URL: "redis://user:secret@" + away}, fault.Unavailable, "the Redis server does not answer"},
		{redis.Config{URL: strings.Replace(s.URL(), "unix://", "unix://:secret@", 1)}, fault.Unauthenticated,
			"the Redis server does not accept the user or its password"},
		{redis.Config{URL: strings.Replace(s.URL(), "unix://", "unix://:right@", 1)}, fault.Conflict,
			"maxmemory-policy is allkeys-lru, set noeviction"},
	} {
		_, err := redis.Open(t.Context(), c.cfg)
		text := fmt.Sprint(err)
		if !fault.Is(err, c.kind) || !strings.Contains(text, c.want) || strings.Contains(text, "secret") {
			t.Errorf("%+v: got %v, want %s", c.cfg, err, c.want)
		}
	}
}

// An event that is too large is refused, and the others are taken.
func TestTooLarge(t *testing.T) {
	b := open(t, redis.Config{URL: redistest.Start(t).URL(), MaxEvent: 1000})
	var j journal
	subscribe(t, b, broker.Trigger{Name: "x"}, j.handle)
	large := brokertest.Event("large", "k")
	large.SetData("text/plain", strings.Repeat("x", 1001))
	if err := b.Publish(t.Context(), large); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
	publish(t, b, "1")
	await(t, "the event", func() bool { return len(j.ids()) == 1 })
}

func BenchmarkBroker(b *testing.B) {
	brokertest.Bench(b, func(b testing.TB) broker.Broker {
		return open(b, redis.Config{URL: redistest.Start(b, redistest.Durable...).URL()})
	})
}
