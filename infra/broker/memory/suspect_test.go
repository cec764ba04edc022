package memory_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/memory"
)

// A suspect that makes the function look away is not the only one that is tried while its trigger is paused: the others
// show that the function is well, and then it is a dead letter.
func TestSuspectIsNotTheOnlyProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, end := memory.NewLog(), make(chan struct{})
		defer close(end)
		var mu sync.Mutex
		var handled, dead int
		var back time.Time
		for life := 1; life <= 3; life++ {
			b, kill := openMortal(log, false)
			over := make(chan struct{})
			d := broker.DefaultDelivery
			d.DeadLetter = func(context.Context, []ce.Event) []broker.Result {
				mu.Lock()
				defer mu.Unlock()
				dead++
				return []broker.Result{{Status: 200}}
			}
			_, err := b.Subscribe(t.Context(), broker.Trigger{Name: "x", Delivery: d},
				func(_ context.Context, batch []ce.Event) []broker.Result {
					switch {
					case life < 3 && batch[0].ID() == "poison":
						close(over)
						<-end
					case batch[0].ID() == "poison" || time.Now().Before(back):
						return []broker.Result{{Status: 503}}
					}
					mu.Lock()
					defer mu.Unlock()
					handled++
					return []broker.Result{{Status: 200}}
				})
			if err != nil {
				t.Fatal(err)
			}
			if life == 1 {
				b.Publish(t.Context(), brokertest.Event("poison", ""))
			}
			if life < 3 {
				<-over
				kill()
				continue
			}
			back = time.Now().Add(10 * time.Minute) // the store is away
			for n := range 100 {
				b.Publish(t.Context(), brokertest.Event(fmt.Sprint(n), ""))
			}
			time.Sleep(20 * time.Minute)
			mu.Lock()
			if handled != 100 {
				t.Errorf("ten minutes after the outage %d of 100 were handled", handled)
			}
			mu.Unlock()
			for n := range 100 {
				b.Publish(t.Context(), brokertest.Event(fmt.Sprint("later", n), ""))
				time.Sleep(time.Minute)
			}
			mu.Lock()
			if handled != 200 || dead != 1 {
				t.Errorf("%d were handled, %d are dead letters", handled, dead)
			}
			mu.Unlock()
			b.Close(context.Background())
		}
	})
}

// A trigger that waits to try a suspect alone, and is paused meanwhile for as long as its function has asked, does not
// hold up the other triggers of the process.
func TestPausedSuspectHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, end := memory.NewLog(), make(chan struct{})
		defer close(end)
		d := broker.Delivery{
			Retry: 10, BackoffPolicy: broker.Linear, BackoffDelay: 10 * time.Second, BackoffMax: time.Hour, Patience: time.Hour,
		}
		publish := func(b broker.Broker, eventType, id string) {
			e := brokertest.Event(id, "")
			e.SetType(eventType)
			b.Publish(t.Context(), e)
		}
		only := func(eventType string) []broker.Filter {
			return []broker.Filter{{Exact: map[string]string{"type": eventType}}}
		}
		for life := 1; life <= 3; life++ {
			b, kill := openMortal(log, false)
			over, done := make(chan struct{}), make(chan struct{})
			a := broker.Trigger{Name: "a", Delivery: d, Concurrency: 4, Filters: only("a")}
			_, err := b.Subscribe(t.Context(), a, func(_ context.Context, batch []ce.Event) []broker.Result {
				switch id := batch[0].ID(); {
				case id == "suspect" && life < 3:
					close(over)
					<-end
				case id == "suspect":
					return []broker.Result{{Status: 500}}
				case id == "slow":
					time.Sleep(2 * time.Second)
				}
				return []broker.Result{{Status: 503, RetryAfter: time.Hour}}
			})
			if err != nil {
				t.Fatal(err)
			}
			other := broker.Trigger{Name: "b", Delivery: d, Filters: only("b")}
			_, err = b.Subscribe(t.Context(), other, func(context.Context, []ce.Event) []broker.Result {
				close(done)
				return []broker.Result{{Status: 200}}
			})
			if err != nil {
				t.Fatal(err)
			}
			if life == 1 {
				publish(b, "a", "suspect")
			}
			if life < 3 {
				<-over
				kill()
				continue
			}
			time.Sleep(time.Second)
			publish(b, "a", "first")
			publish(b, "a", "second")
			time.Sleep(8500 * time.Millisecond)
			publish(b, "a", "slow") // while it runs the suspect is to be tried again
			time.Sleep(3 * time.Second)
			publish(b, "b", "other")
			select {
			case <-done:
			case <-time.After(time.Minute):
				t.Error("the other trigger waits")
			}
			b.Close(context.Background())
		}
	})
}
