package brokertest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
)

func testAttemptsReopened(t *testing.T, h Harness) {
	if h.Reopen == nil {
		t.Skip("the driver keeps nothing")
	}
	b := h.New(t)
	var tries, dead journal
	const retries = 3
	d := broker.Delivery{Retry: retries, BackoffDelay: time.Hour, DeadLetter: dead.handler()}
	for n := 1; n <= retries+1; n++ {
		f := &fixture{t, b}
		f.subscribe(broker.Trigger{Name: "counts", Delivery: d}, tries.answer(always(500)))
		if n == 1 {
			f.publish(Event("1", ""))
		}
		tries.await(t, n)
		if n <= retries {
			if err := b.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			b = h.Reopen(t, b)
		}
	}
	dead.await(t, 1)
	if tries.len() != retries+1 {
		t.Errorf("%d attempts, want %d", tries.len(), retries+1)
	}
	b.Close(context.Background())
}

// life is what one process sees in testDeaths.
type life struct {
	over     chan struct{} // closed when the process is killed
	standing chan struct{} // closed when the bystander is in a call
	once     sync.Once
}

func testDeaths(t *testing.T, h Harness) {
	if h.Kill == nil {
		t.Skip("the driver keeps nothing")
	}
	b := h.New(t)
	const retries = 3
	var handled, dead journal
	kills, end := 0, make(chan struct{})
	d := quick(retries)
	d.DeadLetter = dead.handler()
	t.Cleanup(func() { close(end) })
	for n := 1; dead.len() == 0; n++ {
		if n > 2*retries+2 {
			t.Fatalf("no dead letter after %d deaths", kills)
		}
		l := &life{over: make(chan struct{}), standing: make(chan struct{})}
		f := &fixture{t, b}
		f.subscribe(broker.Trigger{Name: "bystander", Delivery: d, Filters: idPrefix("bystander")},
			func(_ context.Context, batch []event.Event) []broker.Result {
				l.once.Do(func() { close(l.standing) })
				limit := 50 * time.Millisecond // beside the poison it takes longer than the process lives
				if n <= 2 {
					limit = time.Hour
				}
				select {
				case <-time.After(limit):
				case <-l.over:
					<-end
				case <-end:
				}
				handled.add(batch...)
				return []broker.Result{{Status: 200}}
			})
		f.subscribe(broker.Trigger{Name: "victim", Batch: 4, Concurrency: 2, Delivery: d, Filters: idPrefix("victim")},
			func(_ context.Context, batch []event.Event) []broker.Result {
				out := make([]broker.Result, len(batch))
				for i, e := range batch {
					if e.ID() == "victim-poison" {
						close(l.over)
						<-end
					}
					out[i].Status = 200
				}
				handled.add(batch...)
				return out
			})
		if n == 1 {
			f.publish(Event("bystander", "b"))
			<-l.standing
			for i := range 6 {
				f.publish(Event(fmt.Sprint("victim-", i), fmt.Sprint(i%4)))
			}
			f.publish(Event("victim-poison", "1"), Event("victim-behind", "1"))
		}
		await(t, "a death or a dead letter", func() bool {
			select {
			case <-l.over:
				return true
			default:
				return dead.len() > 0
			}
		})
		if dead.len() == 0 {
			kills++
			b = h.Kill(t, b)
		}
	}
	all := []string{"bystander", "victim-0", "victim-1", "victim-2", "victim-3", "victim-4", "victim-5", "victim-behind"}
	await(t, "the others", func() bool {
		ids := handled.ids()
		slices.Sort(ids)
		return slices.Equal(slices.Compact(ids), all)
	})
	settle()
	if kills != retries+1 || !slices.Equal(dead.ids(), []string{"victim-poison"}) {
		t.Errorf("%d deaths, then dead letters %v; want %d and the poison", kills, dead.ids(), retries+1)
	}
	if code := fmt.Sprint(dead.seen[0].Extensions()[broker.ErrorCode]); code != "502" {
		t.Errorf("%s is %s, want 502", broker.ErrorCode, code)
	}
	b.Close(context.Background())
}

func idPrefix(s string) []broker.Filter { return []broker.Filter{{Prefix: map[string]string{"id": s}}} }
