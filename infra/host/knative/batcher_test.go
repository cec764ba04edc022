package knative

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
)

// A unit of large events is limited in bytes.
func TestLargeUnits(t *testing.T) {
	b := &batcher{batch: 128}
	for range 40 {
		e := ce.New()
		e.DataEncoded = make([]byte, 100<<10)
		b.waiting = append(b.waiting, &delivery{event: e, changed: make(chan struct{}, 1)})
	}
	if got := len(b.begin()); got != broker.MaxBatchBytes/(100<<10)+1 || got+len(b.waiting) != 40 {
		t.Errorf("a unit has %d events of 100 KiB, and %d wait", got, len(b.waiting))
	}
}

// Deliveries that wait while the most units run share the next one, and each gets its own result.
func TestUnits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most, waiting = 4, 92
		begun, release := make(chan int, most+waiting), make(chan struct{})
		b := &batcher{batch: 128, limit: time.Minute, slots: make(chan struct{}, most)}
		b.handle = func(_ context.Context, batch []ce.Event) []broker.Result {
			begun <- len(batch)
			<-release
			results := make([]broker.Result, len(batch))
			for i, e := range batch {
				results[i] = broker.Result{Status: http.StatusOK, Message: e.ID()}
			}
			return results
		}
		var all sync.WaitGroup
		deliver := func(n int) {
			e := ce.New()
			e.SetID(fmt.Sprint(n))
			all.Go(func() {
				if got := b.receive(t.Context(), []ce.Event{e}); len(got) != 1 || got[0].Message != e.ID() {
					t.Errorf("delivery %d got %+v", n, got)
				}
			})
		}
		for n := range most {
			deliver(n)
			if got := <-begun; got != 1 {
				t.Fatalf("unit %d has %d events", n, got)
			}
		}
		for n := range waiting {
			deliver(most + n)
		}
		synctest.Wait()
		if n := len(b.waiting); n != waiting {
			t.Fatalf("%d of %d wait", n, waiting)
		}
		close(release)
		if got := <-begun; got != waiting {
			t.Errorf("the next unit has %d events, and %d waited", got, waiting)
		}
		all.Wait()
	})
}

// A caller whose event is in another caller's unit blocks until that ends. In a synctest bubble no time passes while a
// goroutine is busy.
func TestWaitersBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &batcher{batch: 128, limit: time.Minute, slots: make(chan struct{}, 2)}
		b.handle = func(_ context.Context, batch []ce.Event) []broker.Result {
			time.Sleep(map[string]time.Duration{
				"a": time.Second, "b": 2 * time.Second,
			}[batch[0].ID()] + 10*time.Second*time.Duration(len(batch)-1))
			return make([]broker.Result, len(batch))
		}
		var all sync.WaitGroup
		began := time.Now()
		for _, id := range []string{"a", "b", "c", "d"} {
			e := ce.New()
			e.SetID(id)
			all.Go(func() { b.receive(t.Context(), []ce.Event{e}) })
			synctest.Wait()
		}
		all.Wait()
		if took := time.Since(began); took != 11*time.Second { // c and d share a unit after a
			t.Errorf("took %v", took)
		}
	})
}

// What a unit hands back because its time was up waits for the next unit, and its sender notices nothing. A unit ends
// when the platform gives up its oldest delivery, but has half of that time at least.
func TestUnitsHandBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const deliveries, each, limit = 20, time.Second, 10 * time.Second
		b := &batcher{batch: 128, limit: limit, slots: make(chan struct{}, 1)}
		var units []int
		b.handle = func(ctx context.Context, batch []ce.Event) []broker.Result {
			end, _ := ctx.Deadline()
			if left := time.Until(end); left < limit/2 || left > limit {
				t.Errorf("a unit has %s", left)
			}
			until := time.Now().Add(time.Until(end) / 2)
			results := make([]broker.Result, len(batch))
			for i := range batch {
				if i > 0 && !time.Now().Before(until) {
					results[i].Skipped = true
					continue
				}
				time.Sleep(each)
				results[i].Status = http.StatusOK
			}
			units = append(units, len(batch))
			return results
		}
		var all sync.WaitGroup
		for n := range deliveries {
			e := ce.New()
			e.SetID(fmt.Sprint(n))
			all.Go(func() {
				if got := b.receive(t.Context(), []ce.Event{e}); !got[0].OK() {
					t.Errorf("delivery %d got %+v", n, got)
				}
			})
		}
		all.Wait()
		if len(units) < 4 || len(b.waiting) > 0 {
			t.Errorf("units of %v, and %d wait", units, len(b.waiting))
		}
	})
}
