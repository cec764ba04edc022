package nats_test

import (
	"context"
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/nats"
)

// A forgotten trigger starts at the end of the log, also after a restart of the process.
func TestForget(t *testing.T) {
	dir := t.TempDir()
	b := open(t, nats.Config{Dir: dir})
	got := make(chan string, 10)
	h := func(_ context.Context, batch []ce.Event) []broker.Result {
		got <- batch[0].ID()
		return []broker.Result{{Status: 200}}
	}
	sub, err := b.Subscribe(t.Context(), broker.Trigger{Name: "x"}, h)
	if err != nil {
		t.Fatal(err)
	}
	sub.Close()
	if err := b.Publish(t.Context(), brokertest.Event("1", "")); err != nil {
		t.Fatal(err)
	}
	if err := b.Forget(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	b.Close(t.Context())
	b = open(t, nats.Config{Dir: dir})
	if _, err := b.Subscribe(t.Context(), broker.Trigger{Name: "x"}, h); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), brokertest.Event("2", "")); err != nil {
		t.Fatal(err)
	}
	if id := <-got; id != "2" {
		t.Errorf("got %s, want 2", id)
	}
}

// Open refuses an invalid configuration.
func TestConfig(t *testing.T) {
	for name, cfg := range map[string]nats.Config{
		"neither Dir nor URL": {},
		"both":                {Dir: "x", URL: "nats://x"},
		"a bad stream":        {Dir: "x", Stream: "a.b"},
		"a negative interval": {Dir: "x", SyncInterval: -1},
	} {
		if b, err := nats.Open(t.Context(), cfg); err == nil {
			b.Close(t.Context())
			t.Errorf("%s was taken", name)
		}
	}
}
