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

// Deliveries that wait while as many units run as may share the next one, and each gets its own result.
func TestUnits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most, waiting = 4, 92
		begun, release := make(chan int, most+waiting), make(chan struct{})
		in := &inlet{batch: 128, limit: time.Minute, slots: make(chan struct{}, most)}
		in.receive = func(_ context.Context, batch []ce.Event) []broker.Result {
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
				if got := in.take(t.Context(), []ce.Event{e}); len(got) != 1 || got[0].Message != e.ID() {
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
		if n := len(in.waiting); n != waiting {
			t.Fatalf("%d of %d wait", n, waiting)
		}
		close(release)
		if got := <-begun; got != waiting {
			t.Errorf("the next unit has %d events, and %d waited", got, waiting)
		}
		all.Wait()
	})
}

// Whoever shares a unit of another's sleeps while it runs. In a bubble no time passes while anybody is busy.
func TestShareAsleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &inlet{batch: 128, limit: time.Minute, slots: make(chan struct{}, 2)}
		in.receive = func(_ context.Context, batch []ce.Event) []broker.Result {
			time.Sleep(map[string]time.Duration{"a": time.Second, "b": 2 * time.Second}[batch[0].ID()] + 10*time.Second*time.Duration(len(batch)-1))
			return make([]broker.Result, len(batch))
		}
		var all sync.WaitGroup
		began := time.Now()
		for _, id := range []string{"a", "b", "c", "d"} {
			e := ce.New()
			e.SetID(id)
			all.Go(func() { in.take(t.Context(), []ce.Event{e}) })
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
		in := &inlet{batch: 128, limit: limit, slots: make(chan struct{}, 1)}
		var units []int
		in.receive = func(ctx context.Context, batch []ce.Event) []broker.Result {
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
				if got := in.take(t.Context(), []ce.Event{e}); !got[0].OK() {
					t.Errorf("delivery %d got %+v", n, got)
				}
			})
		}
		all.Wait()
		if len(units) < 4 || len(in.waiting) > 0 {
			t.Errorf("units of %v, and %d wait", units, len(in.waiting))
		}
	})
}
