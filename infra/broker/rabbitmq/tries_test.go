package rabbitmq_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/rabbitmq"
)

// Attempts at events that have finished are not stored for ever: they would take the room of others.
func TestTriesOfFinishedEvents(t *testing.T) {
	n := name()
	d := broker.Delivery{Retry: 5, BackoffDelay: time.Millisecond}
	for _, id := range []string{"1", "2"} {
		b := open(t, rabbitmq.Config{Name: n})
		tried, seen := 0, make(chan string, 10)
		subscribe(t, b, broker.Trigger{Name: "x", Delivery: d}, func(_ context.Context, batch []ce.Event) []broker.Result {
			if tried++; tried == 1 {
				return []broker.Result{{Status: 500}}
			}
			seen <- batch[0].ID()
			return []broker.Result{{Status: 200}}
		})
		must(t, b.Publish(t.Context(), brokertest.Event(id, "k")))
		expect(t, seen, id)
		must(t, b.Close(context.Background()))
	}
	if stored := storedTries(t, n); len(stored) > 0 {
		t.Errorf("attempts are stored of %v, all of which have finished", stored)
	}
}

// storedTries takes the stored attempts at the events of trigger x, by their ids.
func storedTries(t *testing.T, broker string) map[string]any {
	m, ok, err := admin(t).Get(broker+".x.0.tries", true)
	must(t, err)
	stored := map[string]any{}
	if ok {
		must(t, json.Unmarshal(m.Body, &stored))
	}
	return stored
}

// Attempts that processes left behind, which died after they had acknowledged the events, make room for those at events
// that are here.
func TestTriesOfDeadProcesses(t *testing.T) {
	n := name()
	b := open(t, rabbitmq.Config{Name: n})
	must(t, b.Declare(t.Context(), "x"))
	left := map[string]any{}
	for i := range 5000 {
		left[fmt.Sprint("gone\x00", i)] = map[string]any{"Attempts": 1}
	}
	body, err := json.Marshal(left)
	must(t, err)
	must(t, admin(t).PublishWithContext(t.Context(), "", n+".x.0.tries", true, false, amqp.Publishing{Body: body}))
	failed := make(chan struct{}, 1)
	d := broker.Delivery{Retry: 5, BackoffDelay: time.Hour}
	subscribe(t, b, broker.Trigger{Name: "x", Delivery: d}, func(context.Context, []ce.Event) []broker.Result {
		failed <- struct{}{}
		return []broker.Result{{Status: 500}}
	})
	must(t, b.Publish(t.Context(), brokertest.Event("1", "k")))
	<-failed
	must(t, b.Close(context.Background()))
	if stored := storedTries(t, n); len(stored) != 1 {
		t.Errorf("attempts at %d events are stored, want those at one", len(stored))
	}
}
