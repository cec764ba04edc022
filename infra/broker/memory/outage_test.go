package memory_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/memory"
)

// outage is a trigger in simulated time, with a handler that answers by the event and the time since the beginning.
type outage struct {
	t     *testing.T
	b     *memory.Broker
	began time.Time

	mu      sync.Mutex
	handled []string
	dead    []string
	calls   int
	counts  counts
}

// suffer runs a trigger, with the default policy, whose handler answers a batch event by event, and lets do publish and
// wait.
func suffer(t *testing.T, trigger broker.Trigger, answer func(o *outage, e ce.Event, batch []ce.Event) broker.Result,
	do func(o *outage),
) *outage {
	o := &outage{t: t}
	synctest.Test(t, func(t *testing.T) {
		o.b, o.began = memory.New(quiet, memory.WithObserver(&o.counts)), time.Now()
		trigger.Name, trigger.Delivery = "x", broker.DefaultDelivery
		trigger.Delivery.DeadLetter = func(_ context.Context, batch []ce.Event) []broker.Result {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.dead = append(o.dead, batch[0].ID())
			return []broker.Result{{Status: 200}}
		}
		_, err := o.b.Subscribe(t.Context(), trigger, func(_ context.Context, batch []ce.Event) []broker.Result {
			out := make([]broker.Result, len(batch))
			for i, e := range batch {
				out[i] = answer(o, e, batch)
			}
			o.mu.Lock()
			defer o.mu.Unlock()
			o.calls++
			for i, e := range batch {
				if out[i].OK() {
					o.handled = append(o.handled, e.ID())
				}
			}
			return out
		})
		if err != nil {
			t.Fatal(err)
		}
		do(o)
		if err := o.b.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
	return o
}

func (o *outage) since() time.Duration { return time.Since(o.began) }

func (o *outage) done() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.handled)
}

func (o *outage) buried() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.dead)
}

func (o *outage) publish(ids ...string) {
	for _, id := range ids {
		e := brokertest.Event(id, "")
		e.SetType("type-" + id[:1])
		o.b.Publish(context.Background(), e)
	}
}

// every publishes an event of each type at each interval, until the time.
func (o *outage) every(d, until time.Duration, types ...string) {
	for n := 0; o.since() < until; n++ {
		for _, name := range types {
			o.publish(fmt.Sprint(name, n))
		}
		time.Sleep(d)
	}
}

func (o *outage) expectDead(want ...string) {
	o.t.Helper()
	slices.Sort(o.dead)
	if !slices.Equal(o.dead, want) {
		o.t.Errorf("dead letters %v, want %v", o.dead, want)
	}
}

var ok, away = broker.Result{Status: 200}, broker.Result{Status: 503, Message: "the store is away"}

// An outage of any length makes no dead letters: delivery pauses, single events are tried at some distance, the pause
// shows, and everything is handled soon after the end.
func TestOutageIsWaitedOut(t *testing.T) {
	for _, status := range []int{0, 429, 502, 503, 504} {
		const events, length = 300, 2 * time.Hour
		o := suffer(t, broker.Trigger{Batch: 128}, func(o *outage, _ ce.Event, _ []ce.Event) broker.Result {
			if o.since() < length {
				return broker.Result{Status: status}
			}
			return ok
		}, func(o *outage) {
			for n := range events {
				o.publish(fmt.Sprint("a", n))
			}
			time.Sleep(time.Hour)
			if s := o.b.Stats()[0]; s.Paused.IsZero() || s.Open != events {
				t.Errorf("status %d: after an hour: %+v", status, s)
			}
			if n := o.counts.failed.Load(); n > 3*128+250 {
				t.Errorf("status %d: %d attempts in an hour", status, n)
			}
			time.Sleep(length - o.since() + 16*time.Second)
			if s := o.b.Stats()[0]; !s.Paused.IsZero() || o.done() != events {
				t.Errorf("status %d: soon after: %d of %d were handled: %+v", status, o.done(), events, s)
			}
		})
		o.expectDead()
		if p, r := o.counts.paused.Load(), o.counts.resumed.Load(); p != 1 || r != 1 {
			t.Errorf("status %d: paused %d times and went on %d times, want once", status, p, r)
		}
	}
}

// Answers about the event count, also when there is nothing else.
func TestAnswersAboutTheEventCount(t *testing.T) {
	for _, status := range []int{404, 408, 409, 500, 501, 505} {
		o := suffer(t, broker.Trigger{}, func(*outage, ce.Event, []ce.Event) broker.Result {
			return broker.Result{Status: status}
		}, func(o *outage) {
			o.publish("a")
			time.Sleep(10 * time.Minute)
		})
		o.expectDead("a")
		if o.calls != broker.DefaultDelivery.Retry+1 || o.counts.paused.Load() != 0 {
			t.Errorf("status %d: %d attempts, paused %d times", status, o.calls, o.counts.paused.Load())
		}
	}
}

// An event for which the function is unavailable, while it handles others, is a dead letter, and only that one: also
// when it takes a whole batch with it, and when it was alone at first.
func TestPoisonDoesNotHideBehindThePause(t *testing.T) {
	poison := func(_ *outage, e ce.Event, _ []ce.Event) broker.Result {
		if e.ID() == "a3" {
			return away
		}
		return ok
	}
	inBatch := func(o *outage) {
		for n := range 20 {
			o.publish(fmt.Sprint("a", n))
		}
		o.every(20*time.Second, 20*time.Minute, "a1")
	}
	for name, do := range map[string]func(*outage){
		"among others": inBatch,
		"alone at first": func(o *outage) {
			o.publish("a3")
			time.Sleep(3 * time.Hour)
			if s := o.b.Stats()[0]; s.Paused.IsZero() || o.buried() > 0 {
				t.Errorf("alone: %+v, %d dead letters", s, o.buried())
			}
			o.publish("a4")
			time.Sleep(5 * time.Second)
			if o.done() != 1 {
				t.Errorf("another event waits behind the poison")
			}
			o.every(20*time.Second, 4*time.Hour, "a1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := suffer(t, broker.Trigger{Batch: 128}, poison, do)
			o.t = t
			o.expectDead("a3")
		})
	}
	t.Run("takes its batch with it", func(t *testing.T) {
		kills := func(_ *outage, _ ce.Event, batch []ce.Event) broker.Result {
			if slices.ContainsFunc(batch, func(e ce.Event) bool { return e.ID() == "a3" }) {
				return broker.Result{} // the process died
			}
			return ok
		}
		published := 0
		o := suffer(t, broker.Trigger{Batch: 128, Concurrency: 2}, kills, func(o *outage) {
			for ; o.since() < 3*time.Minute; time.Sleep(100 * time.Millisecond) {
				for range 20 {
					if published++; published == 30 {
						o.publish("a3")
					}
					o.publish("a1")
				}
				if o.since() > 2*time.Minute && o.buried() == 0 {
					t.Fatal("the poison is no dead letter after 2 minutes")
				}
			}
			time.Sleep(20 * time.Second)
			if o.done() != published {
				t.Errorf("%d of %d others were handled", o.done(), published)
			}
			if n := o.counts.paused.Load(); n > 0 {
				t.Errorf("paused %d times by one event", n)
			}
		})
		o.expectDead("a3")
	})
}

// An event that takes too long is a dead letter while others are handled; when everything takes too long, nothing is.
func TestTimeouts(t *testing.T) {
	hang := func(only string, until time.Duration) func(*outage, ce.Event, []ce.Event) broker.Result {
		return func(o *outage, e ce.Event, _ []ce.Event) broker.Result {
			if (only == "" || e.ID() == only) && o.since() < until {
				time.Sleep(broker.DefaultDelivery.Timeout)
				return broker.Result{Status: 504}
			}
			return ok
		}
	}
	o := suffer(t, broker.Trigger{Concurrency: 2}, hang("a3", 10*time.Hour), func(o *outage) {
		o.publish("a3")
		o.every(20*time.Second, time.Hour, "a1")
	})
	o.expectDead("a3")
	o = suffer(t, broker.Trigger{Concurrency: 2}, hang("", time.Hour), func(o *outage) {
		o.every(20*time.Second, time.Hour, "a", "b")
		time.Sleep(time.Minute)
	})
	o.expectDead()
	if o.done() != 360 {
		t.Errorf("%d were handled, want 360", o.done())
	}
}

// Where a function lacks what one type of event needs, those events wait, and others are handled. What fails for longer
// than the patience counts.
func TestPartialOutage(t *testing.T) {
	payments := func(until time.Duration) func(*outage, ce.Event, []ce.Event) broker.Result {
		return func(o *outage, e ce.Event, _ []ce.Event) broker.Result {
			if e.Type() == "type-p" && o.since() < until {
				return away
			}
			return ok
		}
	}
	o := suffer(t, broker.Trigger{Batch: 16}, payments(50*time.Minute), func(o *outage) {
		o.publish("p1", "p2", "p3")
		o.every(20*time.Second, time.Hour, "a")
	})
	o.expectDead()
	o = suffer(t, broker.Trigger{Batch: 16}, payments(50*time.Hour), func(o *outage) {
		o.publish("p1", "p2", "p3")
		o.every(20*time.Second, 2*time.Hour, "a")
	})
	o.expectDead("p1", "p2", "p3")
}

// An event that waits for another one is patient, and pauses nothing.
func TestWaitsForAnother(t *testing.T) {
	o := suffer(t, broker.Trigger{}, func(o *outage, e ce.Event, _ []ce.Event) broker.Result {
		if e.ID() == "never" || o.since() < 50*time.Minute {
			return broker.Result{Status: 503, Waits: true}
		}
		return ok
	}, func(o *outage) {
		o.publish("later", "never")
		time.Sleep(time.Hour)
		if o.buried() > 0 || o.done() != 1 {
			t.Errorf("%d were handled and %d are dead letters, want 1 and 0", o.done(), o.buried())
		}
		time.Sleep(time.Hour)
	})
	o.expectDead("never")
	if n := o.counts.paused.Load(); n != 0 {
		t.Errorf("paused %d times", n)
	}
}

// A trigger with a rate hands out no more than that on average.
func TestRate(t *testing.T) {
	fine := func(*outage, ce.Event, []ce.Event) broker.Result { return ok }
	suffer(t, broker.Trigger{Rate: 5, Batch: 128, Concurrency: 3}, fine,
		func(o *outage) {
			for n := range 1000 {
				o.publish(fmt.Sprint("a", n))
			}
			time.Sleep(100 * time.Second)
			if n := o.done(); n < 495 || n > 505 {
				t.Errorf("%d events in 100 s at 5 a second", n)
			}
		})
}
