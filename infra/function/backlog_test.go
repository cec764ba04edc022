package function_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	brokermemory "github.com/ebb-dev/ebb/infra/broker/memory"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// A backlog of slow events that takes longer than the timeout is handled, event by event in order of each key, and
// nothing is a dead letter: a batch stops when half of its time has passed and hands the rest back untried.
func TestABacklogIsHandled(t *testing.T) {
	const events, keys, each, timeout = 1000, 40, 3 * time.Millisecond, 300 * time.Millisecond
	h := functiontest.New(t, counting) // makes the events; its clock is not the bubble's
	synctest.Test(t, func(t *testing.T) {
		b := brokermemory.New(brokermemory.WithLogger(slog.New(slog.DiscardHandler)))
		last, calls, dead, done := map[string]int{}, 0, atomic.Int64{}, make(chan struct{}, events)
		f := function.New("slow", function.Env{
			Store: memory.Opener(), Publisher: b, Logger: slog.New(slog.DiscardHandler),
		})
		function.On(f, toPing, func(_ context.Context, _ *function.Tx, p hop) error {
			calls++
			time.Sleep(each)
			if p.Left <= last[p.ID] {
				t.Errorf("%s: got %d after %d", p.ID, p.Left, last[p.ID])
			}
			last[p.ID] = p.Left
			return nil
		})
		if err := f.Instance().Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		trigger := f.Instance().Declaration().Subscription
		trigger.Delivery.Timeout = timeout
		trigger.Delivery.DeadLetter = func(context.Context, []ce.Event) []broker.Result {
			dead.Add(1)
			done <- struct{}{}
			return []broker.Result{broker.ResultOf(nil)}
		}
		handle := func(ctx context.Context, batch []ce.Event) []broker.Result {
			results := f.Instance().Receive(ctx, batch)
			for _, r := range results {
				if r.OK() && ctx.Err() == nil {
					done <- struct{}{}
				}
			}
			return results
		}
		for n := range events {
			id := fmt.Sprint("key-", n%keys)
			if err := b.Publish(t.Context(), h.Event(toPing.New(id, hop{Left: n + 1, ID: id}))); err != nil {
				t.Fatal(err)
			}
			if n == 0 { // the trigger begins with the next event
				if _, err := b.Subscribe(t.Context(), trigger, handle); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range events - 1 {
			<-done
		}
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if n := dead.Load(); n > 0 || calls != events-1 {
			t.Errorf("%d dead letters and %d calls of the handler, want none and %d", n, calls, events-1)
		}
	})
}
