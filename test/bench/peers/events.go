package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wmnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill-sqlite/wmsqlitezombiezen"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/ebb-dev/ebb/infra/broker"
	ebbnats "github.com/ebb-dev/ebb/infra/broker/nats"
	_ "github.com/ebb-dev/ebb/infra/broker/nats/embedded"
)

const (
	publishers = 128
	window     = 1000 // the maximum of events published but not yet handled, so that no turn leaves a long tail
	lazily     = 100 * time.Millisecond
)

var payload = []byte(`{"order_id":"0190b5a0-0000-7000-8000-000000000001","amount":{"amount":1999,"currency":"EUR"}}`)

// flow runs publishers in a closed loop and measures handled events.
type flow struct {
	publish func(ctx context.Context, id string) error
	open    chan struct{}
	sent    sync.Map // the time of sending, by id
	mu      sync.Mutex
	took    []time.Duration
}

func newFlow() *flow { return &flow{open: make(chan struct{}, window)} }

// handled records a handled event. A redelivered event counts once.
func (f *flow) handled(id string) {
	at, ok := f.sent.LoadAndDelete(id)
	if !ok {
		return
	}
	f.mu.Lock()
	f.took = append(f.took, time.Since(at.(time.Time)))
	f.mu.Unlock()
	<-f.open
}

// run publishes for the duration and waits until all events are handled.
func (f *flow) run(ctx context.Context, d time.Duration) (sample, error) {
	f.mu.Lock()
	f.took = nil
	f.mu.Unlock()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, d+30*time.Second)
	defer cancel()
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for range publishers {
		wg.Go(func() {
			for time.Since(begin) < d && failed.Load() == nil {
				select {
				case f.open <- struct{}{}:
				case <-ctx.Done():
					return
				}
				id := uuid.Must(uuid.NewV7()).String()
				f.sent.Store(id, time.Now())
				if err := f.publish(ctx, id); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
			}
		})
	}
	wg.Wait()
	if e := failed.Load(); e != nil {
		return sample{}, *e
	}
	for len(f.open) > 0 {
		if ctx.Err() != nil {
			return sample{}, fmt.Errorf("%d events were not handled in time", len(f.open))
		}
		time.Sleep(time.Millisecond)
	}
	took := time.Since(begin)
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.Sort(f.took)
	return sampleOf(f.took, took), nil
}

// loop returns a run function that calls call from the number of callers repeatedly. It measures the limits, which
// handle no events.
func loop(callers int, call func(context.Context) error) func(context.Context, time.Duration) (sample, error) {
	return func(ctx context.Context, d time.Duration) (sample, error) {
		begin := time.Now()
		all, errs := make([][]time.Duration, callers), make([]error, callers)
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				for time.Since(begin) < d && errs[i] == nil {
					at := time.Now()
					errs[i] = call(ctx)
					all[i] = append(all[i], time.Since(at))
				}
			})
		}
		wg.Wait()
		took, l := time.Since(begin), slices.Concat(all...)
		slices.Sort(l)
		return sampleOf(l, took), errors.Join(errs...)
	}
}

func (b *bench) folder(name string) string {
	dir := filepath.Join(b.dir, fmt.Sprint(name, counter.Add(1)))
	_ = os.MkdirAll(dir, 0o700)
	return dir
}

func newEvent(id string) event.Event {
	e := event.New()
	e.SetID(id)
	e.SetSource("/functions/bench")
	e.SetType("dev.ebb.bench.happened.v1")
	e.SetSubject("one")
	e.SetTime(time.Now())
	e.SetExtension("partitionkey", id)
	_ = e.SetData(event.ApplicationJSON, payload)
	return e
}

func (b *bench) oursEvents(interval time.Duration) func(context.Context) (*opened, error) {
	return func(ctx context.Context) (*opened, error) {
		br, err := ebbnats.Open(ctx, ebbnats.Config{Dir: b.folder("ebb"), SyncInterval: interval})
		if err != nil {
			return nil, err
		}
		return oursFlow(ctx, br, func() {})
	}
}

// oursFlow hands the events of a broker of ours to a flow, and publishes to it.
func oursFlow(ctx context.Context, br broker.Broker, end func()) (*opened, error) {
	stop := func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = br.Close(ctx)
		end()
	}
	f := newFlow()
	f.publish = func(ctx context.Context, id string) error { return br.Publish(ctx, newEvent(id)) }
	_, err := br.Subscribe(ctx, broker.Trigger{Name: "bench", Batch: 128, Concurrency: 1,
		Delivery: broker.DefaultDelivery}, func(_ context.Context, batch []event.Event) []broker.Result {
		results := make([]broker.Result, len(batch))
		for i, e := range batch {
			f.handled(e.ID())
			results[i].Status = 200
		}
		return results
	})
	if err != nil {
		stop()
		return nil, err
	}
	return &opened{run: f.run, close: stop}, nil
}

// embed starts an embedded server with the version and options that Ebb uses.
func (b *bench) embed(interval time.Duration) (*server.Server, error) {
	o := &server.Options{ServerName: "peer", DontListen: true, JetStream: true, StoreDir: b.folder("nats"), NoSigs: true,
		NoLog:             true,
		JetStreamMaxStore: 1 << 40, JetStreamMaxMemory: 64 << 20, MaxPending: 64 << 20, SyncAlways: interval == 0,
		SyncInterval: interval}
	if interval == 0 {
		o.SyncInterval = time.Minute
	}
	s, err := server.NewServer(o)
	if err != nil {
		return nil, err
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		s.Shutdown()
		return nil, errors.New("the NATS server did not start")
	}
	return s, nil
}

func (b *bench) bareJetStream(interval time.Duration) func(context.Context) (*opened, error) {
	return func(ctx context.Context) (*opened, error) {
		s, err := b.embed(interval)
		if err != nil {
			return nil, err
		}
		nc, err := nats.Connect("", nats.InProcessServer(s))
		if err != nil {
			s.Shutdown()
			return nil, err
		}
		end := func() { nc.Close(); s.Shutdown(); s.WaitForShutdown() }
		js, err := jetstream.New(nc)
		if err == nil {
			_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "bare", Subjects: []string{"bare"}})
		}
		if err != nil {
			end()
			return nil, err
		}
		return &opened{close: end, run: loop(publishers, func(ctx context.Context) error {
			_, err := js.Publish(ctx, "bare", payload)
			return err
		})}, nil
	}
}

// watermillFlow routes the subscriber's messages to a flow, and publishes with the publisher.
func watermillFlow(ctx context.Context, pub message.Publisher, sub message.Subscriber, end func()) (*opened, error) {
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		end()
		return nil, err
	}
	f := newFlow()
	f.publish = func(ctx context.Context, id string) error {
		m := message.NewMessage(id, payload)
		m.SetContext(ctx)
		return pub.Publish("bench", m)
	}
	router.AddNoPublisherHandler("bench", "bench", sub, func(m *message.Message) error {
		f.handled(m.UUID)
		return nil
	})
	failed := make(chan error, 1)
	go func() { failed <- router.Run(context.WithoutCancel(ctx)) }()
	stop := func() { _ = router.Close(); end() }
	select {
	case <-router.Running():
		return &opened{run: f.run, close: stop}, nil
	case err := <-failed:
		end()
		return nil, err
	}
}

func (b *bench) watermillNATS(interval time.Duration) func(context.Context) (*opened, error) {
	return func(ctx context.Context) (*opened, error) {
		s, err := b.embed(interval)
		if err != nil {
			return nil, err
		}
		end := func() { s.Shutdown(); s.WaitForShutdown() }
		js := wmnats.JetStreamConfig{AutoProvision: true, DurablePrefix: "bench"}
		options := []nats.Option{nats.InProcessServer(s)}
		sub, err := wmnats.NewSubscriber(wmnats.SubscriberConfig{
			NatsOptions: options, QueueGroupPrefix: "bench", SubscribersCount: 4, CloseTimeout: 5 * time.Second, JetStream: js,
		}, watermill.NopLogger{})
		if err != nil {
			end()
			return nil, err
		}
		pub, err := wmnats.NewPublisher(wmnats.PublisherConfig{NatsOptions: options, JetStream: js}, watermill.NopLogger{})
		if err != nil {
			end()
			return nil, err
		}
		return watermillFlow(ctx, pub, sub, func() { _ = pub.Close(); end() })
	}
}

func (b *bench) watermillSQLite(ctx context.Context) (*opened, error) {
	path := filepath.Join(b.folder("watermill"), "events.db")
	conn, err := sqlite.OpenConn(path)
	if err != nil {
		return nil, err
	}
	end := func() { _ = conn.Close() }
	sub, err := wmsqlitezombiezen.NewSubscriber("file:"+path, wmsqlitezombiezen.SubscriberOptions{InitializeSchema: true,
		PollInterval: time.Millisecond})
	if err != nil {
		end()
		return nil, err
	}
	conn.SetBlockOnBusy()
	pub, err := wmsqlitezombiezen.NewPublisher(conn, wmsqlitezombiezen.PublisherOptions{InitializeSchema: true})
	if err != nil {
		end()
		return nil, err
	}
	return watermillFlow(ctx, pub, sub, func() { _ = pub.Close(); end() })
}

func (b *bench) bareSQLite(context.Context) (*opened, error) {
	conn, err := sqlite.OpenConn(filepath.Join(b.folder("sqlite"), "bare.db"))
	if err != nil {
		return nil, err
	}
	err = sqlitex.ExecuteTransient(conn, "PRAGMA synchronous=FULL", nil)
	if err == nil {
		err = sqlitex.ExecuteTransient(conn, "CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB)", nil)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &opened{close: func() { conn.Close() }, run: loop(1, func(context.Context) error {
		return sqlitex.Execute(conn, "INSERT INTO t (data) VALUES (?)", &sqlitex.ExecOptions{Args: []any{payload}})
	})}, nil
}

func (b *bench) events(context.Context) ([]comparison, error) {
	nats, sqlite := module("github.com/nats-io/nats-server/v2"), module("zombiezen.com/go/sqlite")
	wm := module("github.com/ThreeDotsLabs/watermill")
	wmNATS := wm + ", watermill-nats " + module("github.com/ThreeDotsLabs/watermill-nats/v2") + ", nats-server " + nats
	wmSQLite := wm + ", wmsqlitezombiezen " + module("github.com/ThreeDotsLabs/watermill-sqlite/wmsqlitezombiezen")
	how := fmt.Sprintf("%d publishers of one event of %d bytes at a time, at most %d not yet handled, one receiver; "+
		"brokers in this process, files on disk. p50 and p99 from publish to handled.",
		publishers, len(payload), window)
	return []comparison{{
		title: "Events, on disk before publish returns", how: how,
		contenders: []contender{
			{name: "ebb broker on JetStream", version: "this tree, nats-server " + nats,
				note: "concurrent events share a write and an fsync; CloudEvents", open: b.oursEvents(0)},
			{name: "Watermill on JetStream", version: wmNATS, note: "SyncAlways, 4 subscribers", open: b.watermillNATS(0)},
			{name: "Watermill on SQLite", version: wmSQLite,
				note: "WAL, a commit per event, polls every 1 ms (its default is 1 s)", open: b.watermillSQLite},
			{name: "bare JetStream publish", version: "nats-server " + nats,
				note: "the limit with one message per event: no receiver; SyncAlways", open: b.bareJetStream(0)},
			{name: "bare SQLite commit", version: "zombiezen " + sqlite,
				note: "the limit: one writer, WAL, synchronous=FULL, no receiver", open: b.bareSQLite},
		},
	}, {
		title: "Events, on disk within 100 ms", how: how +
			" This is how ebb dev runs its broker, with outboxes that keep events until they are durable.",
		contenders: []contender{
			{name: "ebb broker on JetStream", version: "this tree, nats-server " + nats, open: b.oursEvents(lazily)},
			{name: "Watermill on JetStream", version: wmNATS, note: "sync_interval 100 ms, 4 subscribers",
				open: b.watermillNATS(lazily)},
			{name: "bare JetStream publish", version: "nats-server " + nats,
				note: "the limit with one message per event: no receiver", open: b.bareJetStream(lazily)},
		},
	}}, nil
}
