package clock_test

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/functions/clock"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/function/functiontest"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// small is a broker that takes events up to a size, which a test changes.
type small struct {
	broker.Publisher
	most *int
}

func (s small) MaxEvent() int { return *s.most }

func (s small) Publish(ctx context.Context, es ...ce.Event) error {
	return s.Publisher.Publish(ctx, es...)
}

// A timer whose event the broker of today does not take holds up no other, is shown with the reason, and fires when a
// broker takes it. Nor does one that cannot be read.
func TestBadTimer(t *testing.T) {
	most := 1 << 20
	var db store.Driver
	declare := func(e function.Env) (*function.Function, error) {
		e.Publisher = small{e.Publisher, &most}
		return clock.New(e)
	}
	h := functiontest.New(t, declare, func(h *functiontest.Harness) {
		open := memory.Opener()
		h.Store = func(ctx context.Context, name string, schema store.Schema) (_ store.Driver, err error) {
			db, err = open(ctx, name, schema)
			return db, err
		}
	})
	due := h.Clock.Now().Add(time.Minute)
	first, _ := deadline(t, h, "first", time.Minute)
	last, _ := deadline(t, h, "last", time.Minute)
	h.MustDeliver(first, last)
	text := due.UTC().Format("2006-01-02T15:04:05.000000000Z")
	data, _ := json.Marshal(map[string]any{"due": text, "event": map[string]any{"nothing": true}})
	err := store.Update(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
		return tx.Create(ctx, store.Key{Collection: "timers", ID: "unreadable"}, data)
	})
	if err != nil {
		t.Fatal(err)
	}
	most = 10
	h.Clock.Advance(time.Minute)
	h.Tick()
	later, _ := deadline(t, h, "small", 0)
	most = 1 << 20
	h.MustDeliver(later)
	h.Clock.Advance(time.Second)
	h.Tick()
	if got := h.Emitted(); len(got) != 1 || got[0].Subject() != "small" {
		t.Fatalf("got %v", subjects(got))
	}
	var page struct{ Items []clock.Pending }
	h.Call("GET", "/api/timers", functiontest.Admin(), nil).Expect(200).JSON(&page)
	for _, p := range page.Items {
		if p.Problem == "" || !p.Due.After(h.Clock.Now()) {
			t.Errorf("got %+v", p)
		}
	}
	if len(page.Items) != 3 {
		t.Errorf("got %+v", page.Items)
	}
	h.Clock.Advance(time.Hour)
	h.Tick()
	if got := subjects(h.Emitted()); !slices.Contains(got, "first") || !slices.Contains(got, "last") {
		t.Errorf("an hour later: got %v", got)
	}
}

// A schedule that this build cannot read, because it was declared with another one, holds up neither the others nor the
// timers.
func TestBadSchedule(t *testing.T) {
	bad := hourly("once", 0)
	bad.Name, bad.Zone = "bad", "Mars/Olympus"
	d := deploy(t, bad, hourly("once", 0))
	command, _ := deadline(t, d.Harness, "order-1", time.Minute)
	d.MustDeliver(command)
	d.pass(31 * time.Minute)
	d.want("beside a bad schedule", "hourly 01 12:30 0")
	d.redeploy(hourly("once", 0))
	d.pass(time.Hour)
	d.want("later", "hourly 01 13:30 0")
}
