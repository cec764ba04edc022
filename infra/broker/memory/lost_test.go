package memory_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/memory"
)

// receive subscribes and returns a channel with the ids of the delivered events.
func receive(t *testing.T, b broker.Broker) <-chan string {
	t.Helper()
	got := make(chan string, 100)
	_, err := b.Subscribe(t.Context(), broker.Trigger{Name: "x"},
		func(_ context.Context, batch []ce.Event) []broker.Result {
			got <- batch[0].ID()
			return []broker.Result{{Status: 200}}
		})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func publish(t *testing.T, b broker.Broker, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := b.Publish(t.Context(), brokertest.Event(id, "")); err != nil {
			t.Fatal(err)
		}
	}
}

// A log that has lost its end gives new events positions before the triggers' cursors. These events are delivered all
// the same, also when the trigger is subscribed after they were published, and the broker logs a warning.
func TestLogThatLostItsEnd(t *testing.T) {
	whole := memory.NewLog()
	b := memory.Open(whole, quiet)
	got := receive(t, b)
	for n := range 6 {
		publish(t, b, fmt.Sprint("old ", n))
		<-got
	}
	b.Close(t.Context())
	cursors, err := whole.Cursors(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	for _, first := range []int{0, 2, 10} {
		short := memory.NewLog()
		for n := range 2 {
			if _, err := short.Append(t.Context(), []ce.Event{brokertest.Event(fmt.Sprint("old ", n), "")}); err != nil {
				t.Fatal(err)
			}
		}
		if err := short.SaveCursors(t.Context(), cursors); err != nil {
			t.Fatal(err)
		}
		var logged bytes.Buffer
		b := memory.Open(short, memory.WithLogger(slog.New(slog.NewTextHandler(&logged, nil))))
		var want []string
		for n := range first {
			publish(t, b, fmt.Sprint("early ", n))
			want = append(want, fmt.Sprint("early ", n))
		}
		got := receive(t, b)
		publish(t, b, "new")
		want = append(want, "new")
		var have []string
		for range want {
			have = append(have, <-got)
		}
		b.Close(t.Context())
		if !slices.Equal(have, want) {
			t.Errorf("got %v, want %v", have, want)
		}
		if !strings.Contains(logged.String(), "lost its end") {
			t.Errorf("no warning in the log: %s", &logged)
		}
	}
}
