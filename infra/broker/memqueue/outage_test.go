package memqueue_test

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
	"github.com/ebb-dev/ebb/infra/broker/memqueue"
)

// A function that is away for longer than its retries last, and for many times the visibility of the queue, gets every
// event when it is back: once each, in the order of each key, and none is a dead letter. So it is with one process that
// serves the trigger and with three, and with an event that came before, during or after the outage.
func TestOutageIsWaitedOut(t *testing.T) {
	const away, keys, events = 3 * time.Hour, 5, 60
	for _, processes := range []int{1, 3} {
		t.Run(fmt.Sprint(processes, " processes"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				queues, began := memqueue.NewQueues(visibility), time.Now()
				var mu sync.Mutex
				handled, last, dead := map[string]int{}, map[string]int{}, 0
				trigger := broker.Trigger{Name: "x", Batch: 8, Delivery: broker.DefaultDelivery}
				trigger.Delivery.DeadLetter = func(context.Context, []ce.Event) []broker.Result {
					mu.Lock()
					defer mu.Unlock()
					dead++
					return []broker.Result{{Status: 200}}
				}
				handle := func(_ context.Context, batch []ce.Event) []broker.Result {
					out := make([]broker.Result, len(batch))
					mu.Lock()
					defer mu.Unlock()
					for i, e := range batch {
						if time.Since(began) < away {
							out[i].Status = 503
							continue
						}
						var key string
						var n int
						_, _ = fmt.Sscanf(e.ID(), "%1s/%d", &key, &n)
						if handled[e.ID()]++; n < last[key] {
							t.Errorf("%s came after %s/%d", e.ID(), key, last[key])
						}
						last[key], out[i].Status = n, 200
					}
					return out
				}
				var brokers []*memqueue.Broker
				for range processes {
					b := memqueue.Open(queues, memqueue.Config{Logger: quiet})
					if _, err := b.Subscribe(t.Context(), trigger, handle); err != nil {
						t.Fatal(err)
					}
					brokers = append(brokers, b)
				}
				for n := range events {
					key := string(rune('a' + n%keys))
					if err := brokers[0].Publish(t.Context(), brokertest.Event(fmt.Sprintf("%s/%d", key, n), key)); err != nil {
						t.Fatal(err)
					}
					time.Sleep(away / (events - 10)) // the last ones come when it is back
				}
				time.Sleep(10 * time.Minute)
				for _, b := range brokers {
					if err := b.Close(context.Background()); err != nil {
						t.Error(err)
					}
				}
				twice := 0
				for _, times := range handled {
					twice += times - 1
				}
				if len(handled) != events || twice > 0 || dead > 0 {
					t.Errorf("%d of %d events are handled, %d of them once more, and %d are dead letters",
						len(handled), events, twice, dead)
				}
			})
		})
	}
}
