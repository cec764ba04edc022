package memory_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/memory"
)

var quiet = memory.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))

// attempts returns the times of the attempts to deliver one event that always fails, since it was published.
func attempts(t *testing.T, d broker.Delivery, r broker.Result, wait time.Duration) (at []time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(quiet)
		defer b.Close(t.Context())
		var mu sync.Mutex
		var began time.Time
		b.Subscribe(t.Context(), broker.Trigger{Name: "x", Delivery: d}, func(context.Context, []ce.Event) []broker.Result {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Since(began).Round(time.Millisecond))
			return []broker.Result{r}
		})
		mu.Lock()
		began = time.Now()
		mu.Unlock()
		if err := b.Publish(t.Context(), brokertest.Event("1", "k")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(wait)
	})
	return at
}

// A trigger with a MinBatchInterval handles a single event at once. Events that follow soon are handled in one batch
// when the interval ends or the batch is full.
func TestMinBatchInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(quiet)
		defer b.Close(t.Context())
		calls, began := make(chan string, 10), time.Now()
		trigger := broker.Trigger{Name: "x", Batch: 3, MinBatchInterval: time.Second}
		_, err := b.Subscribe(t.Context(), trigger, func(_ context.Context, batch []ce.Event) []broker.Result {
			calls <- fmt.Sprint(len(batch), " after ", time.Since(began).Round(100*time.Millisecond))
			return slices.Repeat([]broker.Result{{Status: 200}}, len(batch))
		})
		if err != nil {
			t.Fatal(err)
		}
		publish := func(ids ...string) {
			for _, id := range ids {
				if err := b.Publish(t.Context(), brokertest.Event(id, id)); err != nil {
					t.Fatal(err)
				}
			}
		}
		publish("1")
		time.Sleep(400 * time.Millisecond)
		publish("2", "3")
		time.Sleep(time.Second)
		publish("4", "5", "6")
		time.Sleep(5 * time.Second)
		publish("7")
		synctest.Wait()
		for _, want := range []string{"1 after 0s", "2 after 1s", "3 after 1.4s", "1 after 6.4s"} {
			if got := <-calls; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
	})
}

// The waits are exactly those of the delivery, and Retry-After can only make them longer.
func TestBackoffToTheMillisecond(t *testing.T) {
	s := time.Second
	linear := broker.Delivery{Retry: 3, BackoffPolicy: broker.Linear, BackoffDelay: s}
	three, once := broker.Delivery{Retry: 3, BackoffDelay: s}, broker.Delivery{Retry: 1, BackoffDelay: s}
	bounded := broker.Delivery{Retry: 3, BackoffDelay: s, BackoffMax: 3 * s}
	for name, c := range map[string]struct {
		d    broker.Delivery
		r    broker.Result
		want []time.Duration
	}{
		"linear":             {linear, broker.Result{Status: 500}, []time.Duration{0, s, 3 * s, 6 * s}},
		"exponential":        {three, broker.Result{Status: 500}, []time.Duration{0, 2 * s, 6 * s, 14 * s}},
		"bounded":            {bounded, broker.Result{Status: 500}, []time.Duration{0, 2 * s, 5 * s, 8 * s}},
		"longer by header":   {once, broker.Result{Status: 429, RetryAfter: time.Minute}, []time.Duration{0, 60 * s}},
		"never shorter":      {once, broker.Result{Status: 503, RetryAfter: s}, []time.Duration{0, 2 * s}},
		"not with a 500":     {once, broker.Result{Status: 500, RetryAfter: time.Minute}, []time.Duration{0, 2 * s}},
		"skipped on its own": {broker.Delivery{}, broker.Result{Skipped: true}, nil},
	} {
		if c.want == nil { // no busy loop
			if n := len(attempts(t, c.d, c.r, s)); n < 10 || n > 101 {
				t.Errorf("%s: %d attempts in a second", name, n)
			}
			continue
		}
		if got := attempts(t, c.d, c.r, time.Hour); !slices.Equal(got, c.want) {
			t.Errorf("%s: attempts at %v, want %v", name, got, c.want)
		}
	}
}

// A sink that is down for hours gets at least two attempts a minute, and the event in the end.
func TestSinkBackoffIsCapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.New(quiet)
		defer b.Close(t.Context())
		began := time.Now()
		var last time.Duration
		var asked, taken atomic.Int64
		sink := func(context.Context, []ce.Event) []broker.Result {
			now := time.Since(began)
			if now-last > 31*time.Second {
				t.Errorf("no attempt for %v", now-last)
			}
			last = now
			asked.Add(1)
			if now < 3*time.Hour {
				return []broker.Result{{Status: 503}}
			}
			taken.Add(1)
			return []broker.Result{{Status: 202}}
		}
		b.Subscribe(t.Context(), broker.Trigger{Name: "x", Delivery: broker.Delivery{DeadLetter: sink}},
			func(context.Context, []ce.Event) []broker.Result { return []broker.Result{{Status: 400}} })
		b.Publish(t.Context(), brokertest.Event("1", ""))
		time.Sleep(4 * time.Hour)
		if taken.Load() != 1 {
			t.Errorf("accepted %d times after %d attempts", taken.Load(), asked.Load())
		}
	})
}

// counts is an Observer that counts its calls.
type counts struct{ published, delivered, failed, retried, dead, paused, resumed atomic.Int64 }

func (c *counts) Published(n int) { c.published.Add(int64(n)) }
func (c *counts) Delivered(_ string, status int, _ time.Duration) {
	if status == 200 {
		c.delivered.Add(1)
	} else {
		c.failed.Add(1)
	}
}
func (c *counts) Retried(string)      { c.retried.Add(1) }
func (c *counts) DeadLettered(string) { c.dead.Add(1) }
func (c *counts) Paused(_ string, paused bool) {
	if paused {
		c.paused.Add(1)
	} else {
		c.resumed.Add(1)
	}
}

// The observer's calls and Stats count what happened.
func TestObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c counts
		b := memory.New(quiet, memory.WithObserver(&c))
		defer b.Close(t.Context())
		ok := func(context.Context, []ce.Event) []broker.Result { return []broker.Result{{Status: 200}} }
		b.Subscribe(t.Context(), broker.Trigger{Name: "x", Delivery: broker.Delivery{Retry: 2, DeadLetter: ok}},
			func(_ context.Context, batch []ce.Event) []broker.Result {
				if batch[0].ID() == "bad" {
					return []broker.Result{{Status: 500}}
				}
				return []broker.Result{{Status: 200}}
			})
		b.Publish(t.Context(), brokertest.Event("good", ""), brokertest.Event("bad", ""))
		time.Sleep(time.Minute)
		got := fmt.Sprint(c.published.Load(), c.delivered.Load(), c.failed.Load(), c.retried.Load(), c.dead.Load())
		if want := "2 1 3 2 1"; got != want {
			t.Errorf("published, delivered, failed, retried, dead: %s, want %s", got, want)
		}
		want := broker.Stats{Trigger: "x", Delivered: 1, Retried: 2, DeadLettered: 1}
		if s := b.Stats(); len(s) != 1 || s[0] != want {
			t.Errorf("stats %+v, want %+v", s, want)
		}
	})
}

// A broker whose triggers keep up uses no more memory after many events.
func TestNoGrowth(t *testing.T) {
	b := memory.New(quiet)
	defer b.Close(t.Context())
	var handled atomic.Int64
	b.Subscribe(t.Context(), broker.Trigger{Name: "x", Batch: 100},
		func(_ context.Context, batch []ce.Event) []broker.Result {
			handled.Add(int64(len(batch)))
			out := make([]broker.Result, len(batch))
			for i := range out {
				out[i].Status = 200
			}
			return out
		})
	n := int64(0)
	push := func(rounds int) uint64 {
		for range rounds {
			if err := b.Publish(t.Context(), brokertest.Event("x", fmt.Sprint(n))); err != nil {
				t.Fatal(err)
			}
			n++
		}
		for handled.Load() < n {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(200 * time.Millisecond) // the log is trimmed with a delay
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := push(5_000)
	if after := push(40_000); after > before+16<<20 {
		t.Errorf("the heap grew from %d to %d KiB over 40,000 events", before>>10, after>>10)
	}
}

// A forgotten trigger starts at the end of the log, and a trigger that is being served cannot be forgotten.
func TestForget(t *testing.T) {
	b := memory.New(quiet)
	defer b.Close(t.Context())
	got := make(chan string, 10)
	h := func(_ context.Context, batch []ce.Event) []broker.Result {
		got <- batch[0].ID()
		return []broker.Result{{Status: 200}}
	}
	sub, _ := b.Subscribe(t.Context(), broker.Trigger{Name: "x"}, h)
	if err := b.Forget(t.Context(), "x"); err == nil {
		t.Error("a trigger that is being served was forgotten")
	}
	sub.Close()
	b.Publish(t.Context(), brokertest.Event("1", ""))
	if err := b.Forget(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	b.Subscribe(t.Context(), broker.Trigger{Name: "x"}, h)
	b.Publish(t.Context(), brokertest.Event("2", ""))
	if id := <-got; id != "2" {
		t.Errorf("got %s, want 2", id)
	}
}
