package sqs_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/blob/files"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/sqs"
	"github.com/ebb-dev/ebb/infra/internal/awstest"
)

// slow is a store of blobs that takes its time.
type slow struct {
	blob.Driver
	stored chan struct{} // told when attempts at an event are stored; nil: nothing is
}

func (s *slow) Put(ctx context.Context, key string, b blob.Blob) error {
	err := s.Driver.Put(ctx, key, b)
	if err == nil && strings.HasPrefix(key, "tries/") && s.stored != nil {
		s.stored <- struct{}{}
	}
	return err
}

func (s *slow) Get(ctx context.Context, key string, limit int64) (blob.Blob, error) {
	if strings.HasPrefix(key, "claims/") {
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return blob.Blob{}, ctx.Err()
		}
	}
	if err := ctx.Err(); err != nil {
		return blob.Blob{}, err
	}
	return s.Driver.Get(ctx, key, limit)
}

// Data that is read slowly does not use up the time for which its message is hidden: another process does not get what
// this one is about to handle.
func TestClaimsSlow(t *testing.T) {
	awstest.Need(t)
	d, err := files.Open(files.Config{Dir: t.TempDir()})
	must(t, err)
	cfg := sqs.Config{Name: name(), Blobs: blob.New(&slow{Driver: d}, blob.Rules{}), Visibility: 3 * time.Second}
	first, second := open(t, cfg), open(t, cfg)
	must(t, first.Declare(t.Context(), "orders"))
	const n = 10
	for i := range n {
		e := brokertest.Event(fmt.Sprint(i), fmt.Sprint("k", i))
		must(t, e.SetData("text/plain", strings.Repeat(fmt.Sprint("large", i), 60_000)))
		must(t, first.Publish(t.Context(), e))
	}
	handled, _ := collect(t, first, "orders")
	more, _ := collect(t, second, "orders")
	got := map[string]int{}
	for quiet := time.After(8 * time.Second); quiet != nil; {
		select {
		case e := <-handled:
			got[e.ID()]++
		case e := <-more:
			got[e.ID()]++
		case <-quiet:
			quiet = nil
		}
	}
	for i := range n {
		if times := got[fmt.Sprint(i)]; times != 1 {
			t.Errorf("event %d was handled %d times", i, times)
		}
	}
}

// An event that failed before keeps its attempts when the data of another one is read too slowly.
func TestSlowDataKeepsAttempts(t *testing.T) {
	awstest.Need(t)
	d, err := files.Open(files.Config{Dir: t.TempDir()})
	must(t, err)
	store := &slow{d, make(chan struct{}, 100)}
	cfg := sqs.Config{Name: name(), Blobs: blob.New(store, blob.Rules{}), Visibility: time.Second}
	first := open(t, cfg)
	failing := func(_ context.Context, batch []event.Event) []broker.Result {
		out := make([]broker.Result, len(batch))
		for i := range out {
			out[i].Status = 503
		}
		return out
	}
	trigger := broker.Trigger{Name: "orders", Delivery: broker.Delivery{Retry: 1, BackoffDelay: time.Hour}}
	_, err = first.Subscribe(t.Context(), trigger, failing)
	must(t, err)
	must(t, first.Publish(t.Context(), brokertest.Event("small", "k")))
	select {
	case <-store.stored:
	case <-time.After(20 * time.Second):
		t.Fatal("waited in vain for the attempt to be stored")
	}
	must(t, first.Close(t.Context()))
	second := open(t, cfg)
	large := brokertest.Event("large", "j")
	must(t, large.SetData("text/plain", strings.Repeat("large", 100_000)))
	must(t, second.Publish(t.Context(), large))
	dead := make(chan event.Event, 100)
	trigger.Delivery.DeadLetter = func(_ context.Context, batch []event.Event) []broker.Result {
		for _, e := range batch {
			dead <- e
		}
		return []broker.Result{{Status: 200}}
	}
	_, err = second.Subscribe(t.Context(), trigger, failing)
	must(t, err)
	if id := next(t, dead).ID(); id != "small" {
		t.Errorf("got %s, want small", id)
	}
}
