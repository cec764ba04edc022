package memory_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventlog"
	"github.com/ebb-dev/ebb/infra/broker/memory"
)

// slowLog takes a minute to save cursors for the first time.
type slowLog struct {
	*memory.Log
	saved atomic.Bool
}

func (l *slowLog) SaveCursors(ctx context.Context, cursors map[string][]byte) error {
	if !l.saved.Swap(true) {
		time.Sleep(time.Minute)
	}
	return l.Log.SaveCursors(ctx, cursors)
}

// The cursor of a trigger that is closed is not overwritten by an older one whose saving began before: what was handled
// does not come again.
func TestLastCursorStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memory.NewLog()
		calls := 0
		open := func(l eventlog.Log) broker.Broker {
			b, err := eventlog.New(l, eventlog.Options{Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			_, err = b.Subscribe(t.Context(), broker.Trigger{Name: "x"},
				func(context.Context, []ce.Event) []broker.Result {
					calls++
					time.Sleep(time.Second)
					return []broker.Result{{Status: 200}}
				})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		b := open(&slowLog{Log: log})
		b.Publish(t.Context(), brokertest.Event("1", ""))
		b.Publish(t.Context(), brokertest.Event("2", ""))
		time.Sleep(5 * time.Second) // both are handled, and a cursor before that is being saved
		b.Close(context.Background())
		b = open(log)
		time.Sleep(time.Minute)
		b.Close(context.Background())
		if calls != 2 {
			t.Errorf("two events were handled in %d calls", calls)
		}
	})
}
