package nats_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/nats"
)

// With an interval, published events become durable after a while, or at once with Flush.
func TestFlushes(t *testing.T) {
	b := open(t, nats.Config{Dir: t.TempDir(), SyncInterval: time.Hour})
	for _, id := range []string{"1", "2"} {
		if err := b.Publish(t.Context(), brokertest.Event(id, "")); err != nil {
			t.Fatal(err)
		}
		if b.DurableOffset() >= b.Offset() {
			t.Fatalf("event %s became durable by itself", id)
		}
		if err := b.Flush(t.Context()); err != nil || b.DurableOffset() != b.Offset() {
			t.Fatalf("event %s: durable up to %d of %d, %v", id, b.DurableOffset(), b.Offset(), err)
		}
	}
	soon := open(t, nats.Config{Dir: t.TempDir(), SyncInterval: time.Millisecond})
	if err := soon.Publish(t.Context(), brokertest.Event("1", "")); err != nil {
		t.Fatal(err)
	}
	for soon.DurableOffset() < soon.Offset() { // or the test runs out of time
		time.Sleep(time.Millisecond)
	}
	always := open(t, nats.Config{Dir: t.TempDir()})
	err := always.Publish(t.Context(), brokertest.Event("1", ""))
	if err != nil || always.DurableOffset() < always.Offset() {
		t.Errorf("without an interval: durable up to %d of %d, %v", always.DurableOffset(), always.Offset(), err)
	}
}

// A log without its files cannot be synced, and no later event becomes durable.
func TestFlushFails(t *testing.T) {
	dir := t.TempDir()
	b := open(t, nats.Config{Dir: dir, SyncInterval: time.Hour})
	if err := b.Publish(t.Context(), brokertest.Event("1", "")); err != nil {
		t.Fatal(err)
	}
	blocks := filepath.Join(dir, "jetstream", "$G", "streams", "ebb", "msgs")
	if err := os.Rename(blocks, blocks+"-away"); err != nil {
		t.Fatal(err)
	}
	if err := b.Flush(t.Context()); err == nil {
		t.Error("it was flushed without files")
	}
	if err := os.Rename(blocks+"-away", blocks); err != nil {
		t.Fatal(err)
	}
	if err := b.Flush(t.Context()); err == nil || b.DurableOffset() != 0 {
		t.Errorf("it was flushed after a failure: %d, %v", b.DurableOffset(), err)
	}
}

// When a power cut has removed the end of the log, a trigger with a later cursor receives the next events.
func TestTriggerAheadOfTheLog(t *testing.T) {
	dir := t.TempDir()
	got := make(chan string, 10)
	run := func(ids ...string) {
		t.Helper()
		b := open(t, nats.Config{Dir: dir, SyncInterval: time.Hour})
		_, err := b.Subscribe(t.Context(), broker.Trigger{Name: "x"},
			func(_ context.Context, batch []ce.Event) []broker.Result {
				got <- batch[0].ID()
				return []broker.Result{{Status: 200}}
			})
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if err := b.Publish(t.Context(), brokertest.Event(id, "")); err != nil {
				t.Fatal(err)
			}
			select {
			case first := <-got:
				if first != id {
					t.Fatalf("got %s, want %s", first, id)
				}
			case <-time.After(30 * time.Second):
				t.Fatalf("%s does not come", id)
			}
		}
		if err := b.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	log := filepath.Join(dir, "jetstream", "$G", "streams", "ebb")
	kept := filepath.Join(t.TempDir(), "kept")
	run("1", "2")
	if err := os.CopyFS(kept, os.DirFS(log)); err != nil {
		t.Fatal(err)
	}
	run("3", "4", "5")
	if err := os.RemoveAll(log); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(log, os.DirFS(kept)); err != nil {
		t.Fatal(err)
	}
	run("6", "7")
}
