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

// With an interval, what was published settles by and by, or at once when somebody asks.
func TestSettles(t *testing.T) {
	b := open(t, nats.Config{Dir: t.TempDir(), SyncInterval: time.Hour})
	for _, id := range []string{"1", "2"} {
		if err := b.Publish(t.Context(), brokertest.Event(id, "")); err != nil {
			t.Fatal(err)
		}
		if b.Settled() >= b.Place() {
			t.Fatalf("event %s has settled by itself", id)
		}
		if err := b.Settle(t.Context()); err != nil || b.Settled() != b.Place() {
			t.Fatalf("event %s: settled %d of %d, %v", id, b.Settled(), b.Place(), err)
		}
	}
	soon := open(t, nats.Config{Dir: t.TempDir(), SyncInterval: time.Millisecond})
	if err := soon.Publish(t.Context(), brokertest.Event("1", "")); err != nil {
		t.Fatal(err)
	}
	for soon.Settled() < soon.Place() { // or the test runs out of time
		time.Sleep(time.Millisecond)
	}
	always := open(t, nats.Config{Dir: t.TempDir()})
	if err := always.Publish(t.Context(), brokertest.Event("1", "")); err != nil || always.Settled() < always.Place() {
		t.Errorf("without an interval: settled %d of %d, %v", always.Settled(), always.Place(), err)
	}
}

// A log whose files are gone cannot be synced, and nothing settles from then on.
func TestSettleFails(t *testing.T) {
	dir := t.TempDir()
	b := open(t, nats.Config{Dir: dir, SyncInterval: time.Hour})
	if err := b.Publish(t.Context(), brokertest.Event("1", "")); err != nil {
		t.Fatal(err)
	}
	blocks := filepath.Join(dir, "jetstream", "$G", "streams", "ebb", "msgs")
	if err := os.Rename(blocks, blocks+"-away"); err != nil {
		t.Fatal(err)
	}
	if err := b.Settle(t.Context()); err == nil {
		t.Error("it settled without files")
	}
	if err := os.Rename(blocks+"-away", blocks); err != nil {
		t.Fatal(err)
	}
	if err := b.Settle(t.Context()); err == nil || b.Settled() != 0 {
		t.Errorf("it settled after a failure: %d, %v", b.Settled(), err)
	}
}

// When a power cut has taken the end of the log away, a trigger that had read further hears what comes then.
func TestTriggerAheadOfTheLog(t *testing.T) {
	dir := t.TempDir()
	got := make(chan string, 10)
	run := func(ids ...string) {
		t.Helper()
		b := open(t, nats.Config{Dir: dir, SyncInterval: time.Hour})
		_, err := b.Subscribe(t.Context(), broker.Trigger{Name: "x"}, func(_ context.Context, batch []ce.Event) []broker.Result {
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
			case heard := <-got:
				if heard != id {
					t.Fatalf("heard %s, want %s", heard, id)
				}
			case <-time.After(30 * time.Second):
				t.Fatalf("%s is not heard", id)
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
