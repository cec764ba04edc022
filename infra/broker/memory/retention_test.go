package memory_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/memory"
)

// The trigger of a removed function holds the log for a while and not for ever. A trigger that is served stays, also
// one that no event is for, and one whose event fails all the time.
func TestRetention(t *testing.T) {
	for name, c := range map[string]struct {
		away time.Duration
		want []string
	}{
		"shorter than the retention": {2 * time.Hour, []string{"gone", "quiet", "served", "stuck"}},
		"longer than the retention":  {30 * time.Hour, []string{"quiet", "served", "stuck"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := memory.NewLog()
				b := memory.Open(log, quiet, memory.WithRetention(24*time.Hour))
				defer b.Close(t.Context())
				subscribe := func(d broker.Trigger, status int) broker.Subscription {
					sub, err := b.Subscribe(t.Context(), d, func(_ context.Context, batch []ce.Event) []broker.Result {
						return slices.Repeat([]broker.Result{{Status: status}}, len(batch))
					})
					if err != nil {
						t.Fatal(err)
					}
					return sub
				}
				other := []broker.Filter{{Exact: map[string]string{"type": "com.example.other"}}}
				endless := broker.Delivery{
					Retry: 1 << 20, BackoffPolicy: broker.Linear, BackoffDelay: time.Hour, Timeout: time.Minute,
				}
				subscribe(broker.Trigger{Name: "served", Batch: 128}, 200)
				subscribe(broker.Trigger{Name: "quiet", Filters: other}, 200)
				subscribe(broker.Trigger{Name: "stuck", Batch: 128, Delivery: endless}, 503)
				subscribe(broker.Trigger{Name: "gone"}, 200).Close()
				publish(t, b, "first")
				time.Sleep(c.away)
				for n := range 3000 {
					publish(t, b, fmt.Sprint(n))
				}
				time.Sleep(time.Second)
				cursors, err := log.Cursors(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for name := range cursors {
					got = append(got, name)
				}
				slices.Sort(got)
				if !slices.Equal(got, c.want) {
					t.Errorf("got the triggers %v, want %v", got, c.want)
				}
			})
		})
	}
}
