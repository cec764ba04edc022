package memory_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/memory"
)

// A trigger with an interval between its batches does not wait when a batch is full, by its events or by its bytes.
func TestIntervalDoesNotThrottle(t *testing.T) {
	for name, c := range map[string]struct{ events, size, keys int }{
		"many": {4000, 10, 4000}, "of one key": {4000, 10, 1}, "large": {40, 300 << 10, 40},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := memory.New()
				t.Cleanup(func() { _ = b.Close(context.Background()) })
				must := func(err error) {
					t.Helper()
					if err != nil {
						t.Fatal(err)
					}
				}
				must(b.Declare(t.Context(), "archive"))
				for i := range c.events {
					e := brokertest.Event(fmt.Sprint(i), fmt.Sprint("key-", i%c.keys))
					must(e.SetData("text/plain", strings.Repeat("x", c.size)))
					must(b.Publish(t.Context(), e))
				}
				var n atomic.Int64
				done := make(chan struct{})
				begin := time.Now()
				_, err := b.Subscribe(t.Context(), broker.Trigger{
					Name: "archive", Batch: 500, MinBatchInterval: 250 * time.Millisecond,
				}, func(_ context.Context, batch []event.Event) []broker.Result {
					out := make([]broker.Result, len(batch))
					for i := range out {
						out[i].Status = 200
					}
					if n.Add(int64(len(batch))) == int64(c.events) {
						close(done)
					}
					return out
				})
				must(err)
				<-done
				if took := time.Since(begin); took > 1200*time.Millisecond {
					t.Errorf("%d events took %v", c.events, took)
				}
			})
		})
	}
}
