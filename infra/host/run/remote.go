package run

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/open"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host"
	hostsettings "github.com/ebb-dev/ebb/infra/host/internal/settings"
	"github.com/ebb-dev/ebb/infra/host/knative"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// tick is the interval of the ticks for a function that declares OnTick.
const tick = 500 * time.Millisecond

// remote is the broker of EBB_BROKER: the function's publisher, and the source of its events. Until Open has succeeded
// it refuses what is published as fault.Unavailable, and the outbox of the function keeps it.
//
// Dead letters travel in a broker of their own beside it, from the processes whose trigger gave them up to those of the
// function that consumes dead letters. Before a process publishes anything it declares the triggers of the whole
// system, so that no event is missed by a function whose first process starts later.
type remote struct {
	opener   broker.Opener
	maxEvent int
	system   func() manifest.System
	trigger  broker.Trigger
	observer broker.Observer
	logger   *slog.Logger

	mu           sync.Mutex
	events, dead broker.Broker      // nil: not opened
	stop         context.CancelFunc // ends the subscriptions and the ticks; nil: nothing is served
	subs         []broker.Subscription
	ticking      sync.WaitGroup
}

var (
	_ broker.Limiter = (*remote)(nil)
	_ knative.Source = (*remote)(nil)
)

// broker makes the remote broker of EBB_BROKER the publisher; nil without one. It opens nothing.
func (s settings) broker(env *function.Env) (*remote, error) {
	if s.Broker == "" {
		return nil, nil
	}
	opener, err := open.ByURL(s.Broker)
	if err != nil {
		return nil, hostsettings.Error("EBB_BROKER", "%v", err)
	}
	can, err := open.Capabilities(s.Broker)
	if err != nil {
		return nil, hostsettings.Error("EBB_BROKER", "%v", err)
	}
	r := &remote{
		opener: opener, maxEvent: can.MaxEvent, system: env.System, logger: env.Logger,
		observer: observer{env.Telemetry},
	}
	env.Publisher = r
	return r, nil
}

// observer counts the broker's work, except for what the functions count themselves.
type observer struct{ *telemetry.Telemetry }

func (observer) Published(int)                        {}
func (observer) Delivered(string, int, time.Duration) {}

// deadLetterRoom is how many bytes a dead letter may have more than its event: the place and the reason of the failure.
const deadLetterRoom = 2 << 10

// MaxEvent implements broker.Limiter. An event that is as large as the broker takes could not become a dead letter, and
// would hold up its key for ever.
func (r *remote) MaxEvent() int { return r.maxEvent - deadLetterRoom }

// Publish implements broker.Publisher.
func (r *remote) Publish(ctx context.Context, events ...ce.Event) error {
	return publish(ctx, r.part(&r.events), events)
}

func (r *remote) part(b *broker.Broker) broker.Broker {
	r.mu.Lock()
	defer r.mu.Unlock()
	return *b
}

func publish(ctx context.Context, b broker.Broker, events []ce.Event) error {
	if b == nil {
		return fault.New(fault.Unavailable, "the broker is not connected yet")
	}
	return b.Publish(ctx, events...)
}

// Open implements knative.Source.
func (r *remote) Open(ctx context.Context) error {
	var triggers, sinks []string
	for _, d := range r.system().Functions {
		if len(d.Consumes) > 0 {
			triggers = append(triggers, d.Subscription.Name)
		}
		if d.DeadLetters {
			sinks = append(sinks, d.Name)
		}
	}
	err := r.open(ctx, &r.events, "", triggers)
	if err == nil && len(sinks) > 0 {
		err = r.open(ctx, &r.dead, broker.DeadLetters, sinks)
	}
	return err
}

// open opens a part of the broker unless it is open, and declares its triggers.
func (r *remote) open(ctx context.Context, to *broker.Broker, part string, triggers []string) error {
	if r.part(to) != nil {
		return nil
	}
	b, err := r.opener(ctx, broker.Options{Part: part, Observer: r.observer, Logger: r.logger})
	if err != nil {
		return err
	}
	if d, ok := b.(broker.Declarer); ok {
		if err := d.Declare(ctx, triggers...); err != nil {
			return errors.Join(err, b.Close(ctx))
		}
	}
	r.mu.Lock()
	*to = b
	r.mu.Unlock()
	return nil
}

// Serve implements knative.Source.
func (r *remote) Serve(ctx context.Context, f host.Instance) error {
	if r.stop != nil { // of a Serve that failed
		if err := r.Pause(ctx); err != nil {
			return err
		}
	}
	declared := f.Declaration()
	serving, stop := context.WithCancel(context.Background())
	r.stop, r.subs = stop, nil
	subscribe := func(b broker.Broker, t broker.Trigger, h broker.Handler) error {
		sub, err := b.Subscribe(serving, t, h)
		if err == nil {
			r.subs = append(r.subs, sub)
		}
		return err
	}
	if len(declared.Consumes) > 0 {
		t := r.trigger
		if dead := r.part(&r.dead); dead != nil {
			t.Delivery.DeadLetter = func(ctx context.Context, batch []ce.Event) []broker.Result {
				results := make([]broker.Result, len(batch))
				for i := range batch {
					results[i] = broker.ResultOf(dead.Publish(ctx, batch[i]))
				}
				return results
			}
		}
		if err := subscribe(r.part(&r.events), t, f.Receive); err != nil {
			return err
		}
	}
	if declared.DeadLetters {
		t := broker.Trigger{Name: declared.Name, Subscriber: declared.Name, Delivery: broker.DefaultDelivery, Batch: 32}
		t.Delivery.Retry = forever
		if err := subscribe(r.part(&r.dead), t, untilTaken(f.Receive)); err != nil {
			return err
		}
	}
	if declared.Ticks {
		r.ticking.Go(func() { r.tick(serving, f) })
	}
	return nil
}

// forever is the number of attempts at a dead letter: there is no place behind its sink.
const forever = 1 << 30

// untilTaken returns a handler that answers every failure as one that is tried again.
func untilTaken(h broker.Handler) broker.Handler {
	return func(ctx context.Context, batch []ce.Event) []broker.Result {
		results := h(ctx, batch)
		for i := range results {
			if r := &results[i]; !r.OK() && !r.Skipped {
				r.Status = http.StatusServiceUnavailable
			}
		}
		return results
	}
}

// tick tells the function the time until ctx ends.
func (r *remote) tick(ctx context.Context, f host.Instance) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		for more := true; more && ctx.Err() == nil; {
			var err error
			if more, err = f.Tick(ctx, time.Now()); err != nil && ctx.Err() == nil {
				r.logger.Warn("the tick failed; the next one does its work", "error", err)
				more = false
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Pause implements knative.Source.
func (r *remote) Pause(context.Context) error {
	if r.stop == nil {
		return nil
	}
	var errs []error
	for _, s := range r.subs {
		errs = append(errs, s.Close())
	}
	r.stop()
	r.ticking.Wait()
	return errors.Join(errs...)
}

// Close implements knative.Source.
func (r *remote) Close(ctx context.Context) error {
	var errs []error
	for _, b := range []broker.Broker{r.part(&r.dead), r.part(&r.events)} {
		if b != nil {
			errs = append(errs, b.Close(ctx))
		}
	}
	return errors.Join(errs...)
}
