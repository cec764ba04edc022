package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/nats"
	_ "github.com/ebb-dev/ebb/infra/broker/nats/embedded"
	"github.com/ebb-dev/ebb/test/bench/load"
)

func (b *bench) events(ctx context.Context) error {
	br, err := nats.Open(ctx, nats.Config{Dir: filepath.Join(b.dir, "events")})
	if err != nil {
		return err
	}
	defer br.Close(context.WithoutCancel(ctx))
	r := &receiver{}
	_, err = br.Subscribe(ctx, broker.Trigger{Name: "bench", Batch: 128, Concurrency: 1, Delivery: broker.DefaultDelivery},
		r.handle)
	if err != nil {
		return err
	}
	d := b.duration / 4
	n, took, err := flood(ctx, br, r, 128, d)
	if err != nil {
		return err
	}
	b.add("event published → durable → handled → acked", fmt.Sprintf("%.0f/s", float64(n)/took.Seconds()),
		"20,000/s",
		fmt.Sprintf("128 publishers of one event at a time for %s, one trigger, every append synced", d))
	l, err := paced(ctx, br, r, 1000, d)
	if err != nil {
		return err
	}
	b.add("the same at 1,000 a second", fmt.Sprintf("p50 %s, p99 %s", ms(load.Quantile(l, 0.5)),
		ms(load.Quantile(l, 0.99))), "p50 ≤ 1 ms", fmt.Sprintf("open loop for %s, publish to handled", d))
	return nil
}

// receiver counts delivered events and measures their latency.
type receiver struct {
	handled atomic.Int64
	mu      sync.Mutex
	sent    map[string]time.Time
	took    []time.Duration
}

func (r *receiver) handle(_ context.Context, batch []ce.Event) []broker.Result {
	now := time.Now()
	results := make([]broker.Result, len(batch))
	r.mu.Lock()
	for i, e := range batch {
		results[i].Status = 200
		if at, ok := r.sent[e.ID()]; ok {
			r.took = append(r.took, now.Sub(at))
			delete(r.sent, e.ID())
		}
	}
	r.mu.Unlock()
	r.handled.Add(int64(len(batch)))
	return results
}

func newEvent() ce.Event {
	e := ce.New()
	e.SetID(uuid.Must(uuid.NewV7()).String())
	e.SetSource("/functions/bench")
	e.SetType("dev.ebb.bench.happened.v1")
	e.SetSubject("one")
	e.SetTime(time.Now())
	e.SetExtension("partitionkey", e.ID())
	_ = e.SetData(ce.ApplicationJSON,
		[]byte(`{"order_id":"0190b5a0-0000-7000-8000-000000000001","amount":{"amount":1999,"currency":"EUR"}}`))
	return e
}

func flood(ctx context.Context, p broker.Publisher, r *receiver, publishers int, d time.Duration) (int64, time.Duration,
	error) {
	begin, before := time.Now(), r.handled.Load()
	var published atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for range publishers {
		wg.Go(func() {
			for time.Since(begin) < d && failed.Load() == nil {
				if err := p.Publish(ctx, newEvent()); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				published.Add(1)
			}
		})
	}
	wg.Wait()
	if e := failed.Load(); e != nil {
		return 0, 0, *e
	}
	for r.handled.Load()-before < published.Load() {
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
		time.Sleep(time.Millisecond)
	}
	return published.Load(), time.Since(begin), nil
}

func paced(ctx context.Context, p broker.Publisher, r *receiver, rate int, d time.Duration) ([]time.Duration, error) {
	r.mu.Lock()
	r.sent, r.took = map[string]time.Time{}, nil
	r.mu.Unlock()
	begin := time.Now()
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	n := int(d.Seconds() * float64(rate))
	for i := range n {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(rate))))
		wg.Go(func() {
			e := newEvent()
			r.mu.Lock()
			r.sent[e.ID()] = time.Now()
			r.mu.Unlock()
			if err := p.Publish(ctx, e); err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
	}
	wg.Wait()
	if e := failed.Load(); e != nil {
		return nil, *e
	}
	for {
		r.mu.Lock()
		left, took := len(r.sent), slices.Clone(r.took)
		r.mu.Unlock()
		if left == 0 {
			slices.Sort(took)
			return took, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		time.Sleep(time.Millisecond)
	}
}
