package run

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/brokertest"
	"github.com/ebb-dev/ebb/infra/broker/memory"
	"github.com/ebb-dev/ebb/infra/host"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// served is a function that consumes events and dead letters.
type served struct {
	host.Instance
	receive broker.Handler
}

func (served) Declaration() *manifest.Declaration {
	return &manifest.Declaration{
		Function:     manifest.Function{Name: "x", Consumes: []string{"any"}, DeadLetters: true},
		Subscription: broker.Trigger{Name: "x", Subscriber: "/functions/x"},
	}
}

func (f served) Receive(ctx context.Context, batch []ce.Event) []broker.Result {
	return f.receive(ctx, batch)
}

// connected returns a remote whose brokers take events of up to 100,000 bytes. Each broker passes wrap.
func connected(t *testing.T, wrap func(part string, b broker.Broker) broker.Broker) *remote {
	t.Helper()
	const most = 100_000
	r := &remote{
		maxEvent: most, logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		trigger: served{}.Declaration().Subscription,
		system: func() manifest.System {
			return manifest.System{Functions: []*manifest.Declaration{served{}.Declaration()}}
		},
		opener: func(_ context.Context, opts broker.Options) (broker.Broker, error) {
			b := memory.New(memory.WithMaxEvent(most))
			return wrap(opts.Part, b), nil
		},
	}
	if err := r.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(context.Background()) })
	return r
}

// The largest event that a function may publish becomes a dead letter, which is larger than the event.
func TestDeadLetterOfLargestEvent(t *testing.T) {
	dead := make(chan ce.Event, 1)
	r := connected(t, func(_ string, b broker.Broker) broker.Broker { return b })
	f := served{receive: func(_ context.Context, batch []ce.Event) []broker.Result {
		if batch[0].Extensions()[broker.ErrorCode] != nil {
			dead <- batch[0]
			return []broker.Result{{Status: 200}}
		}
		return []broker.Result{{Status: 422, Message: strings.Repeat("no ", 1000)}}
	}}
	if err := r.Serve(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	e := brokertest.Event("large", "k")
	e.DataEncoded = make([]byte, r.MaxEvent()-300) // and its attributes
	if err := r.Publish(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	select {
	case <-dead:
	case <-time.After(10 * time.Second):
		t.Error("the dead letter did not come")
	}
	if err := r.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// moody is a broker whose first Subscribe fails.
type moody struct {
	broker.Broker
	asked atomic.Int32
}

func (m *moody) Subscribe(ctx context.Context, t broker.Trigger, h broker.Handler) (broker.Subscription, error) {
	if m.asked.Add(1) == 1 {
		return nil, errors.New("the broker is away")
	}
	return m.Broker.Subscribe(ctx, t, h)
}

// A Serve that fails leaves no subscription: after the next one, Pause ends all of them.
func TestServeAgain(t *testing.T) {
	r := connected(t, func(part string, b broker.Broker) broker.Broker {
		if part == broker.DeadLetters {
			return &moody{Broker: b}
		}
		return b
	})
	var calls atomic.Int32
	f := served{receive: func(_ context.Context, batch []ce.Event) []broker.Result {
		calls.Add(1)
		return make([]broker.Result, len(batch))
	}}
	if err := r.Serve(t.Context(), f); err == nil {
		t.Fatal("the first Serve has not failed")
	}
	if err := r.Serve(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if err := r.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	if stats := r.events.(interface{ Stats() []broker.Stats }).Stats(); len(stats) > 0 {
		t.Errorf("after Pause %v is still served", stats)
	}
}
