package brokertest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
)

// Bench measures a driver: events per second from publish over durable and handled to acked,
// with many publishers of one event each, and the latency from publish to handler at a steady rate.
func Bench(b *testing.B, open func(testing.TB) broker.Broker) {
	for _, publishers := range []int{32, 128} {
		b.Run(fmt.Sprintf("throughput/publishers=%d", publishers), func(b *testing.B) {
			benchThroughput(b, open(b), publishers)
		})
	}
	b.Run("latency/rate=1000", func(b *testing.B) { benchLatency(b, open(b), 1000) })
}

func benchThroughput(b *testing.B, br broker.Broker, publishers int) {
	var handled atomic.Int64
	done := make(chan struct{})
	total := int64(b.N)
	subscribe(b, br, 100, func(batch []event.Event) {
		if handled.Add(int64(len(batch))) == total {
			close(done)
		}
	})
	var left atomic.Int64
	left.Store(total)
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for p := range publishers {
		wg.Go(func() {
			for n := left.Add(-1); n >= 0; n = left.Add(-1) {
				if err := br.Publish(context.Background(), Event(fmt.Sprint(n), fmt.Sprint(p))); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	<-done
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

func benchLatency(b *testing.B, br broker.Broker, rate int) {
	var mu sync.Mutex
	published := make(map[string]time.Time)
	var took, acked []time.Duration
	done := make(chan struct{})
	subscribe(b, br, 1, func(batch []event.Event) {
		mu.Lock()
		defer mu.Unlock()
		took = append(took, time.Since(published[batch[0].ID()]))
		if len(took) == b.N {
			close(done)
		}
	})
	b.ResetTimer()
	var wg sync.WaitGroup
	began := time.Now()
	for n := range b.N {
		time.Sleep(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(rate))))
		e := Event(fmt.Sprint(n), fmt.Sprint(n%64))
		wg.Go(func() {
			now := time.Now()
			mu.Lock()
			published[e.ID()] = now
			mu.Unlock()
			if err := br.Publish(context.Background(), e); err != nil {
				b.Error(err)
			}
			d := time.Since(now)
			mu.Lock()
			acked = append(acked, d)
			mu.Unlock()
		})
	}
	wg.Wait()
	<-done
	b.StopTimer()
	slices.Sort(took)
	slices.Sort(acked)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	b.ReportMetric(ms(took[len(took)/2]), "p50-ms")
	b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
	b.ReportMetric(ms(acked[len(acked)/2]), "durable-p50-ms")
}

func subscribe(b *testing.B, br broker.Broker, batch int, h func([]event.Event)) {
	_, err := br.Subscribe(b.Context(), broker.Trigger{Name: "bench", Batch: batch},
		func(_ context.Context, batch []event.Event) []broker.Result {
			h(batch)
			out := make([]broker.Result, len(batch))
			for i := range out {
				out[i].Status = 200
			}
			return out
		})
	if err != nil {
		b.Fatal(err)
	}
}
