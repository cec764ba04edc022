package eventqueue

import (
	"context"
	"log/slog"
	"sync"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Options are what the drivers' own options come down to. The zero value has the defaults.
type Options struct {
	Observer broker.Observer // nil: none
	Logger   *slog.Logger    // nil: slog.Default
	MaxEvent int             // the largest event in bytes; 0: 1 MiB
}

// Broker is a broker.Broker over a Driver. Drivers embed it.
type Broker struct {
	driver   Driver
	opts     Options
	triggers *delivery.Registry

	publishing sync.RWMutex // held by each Publish while it uses the driver
	closed     bool         // guarded by publishing

	mu       sync.Mutex
	sessions map[string]*session // the triggers that this process serves
}

var (
	_ broker.Broker   = (*Broker)(nil)
	_ broker.Limiter  = (*Broker)(nil)
	_ broker.Declarer = (*Broker)(nil)
	_ delivery.Source = (*source)(nil)
)

// New starts a broker over the driver, which it owns from now on.
func New(driver Driver, opts Options) *Broker {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.MaxEvent == 0 {
		opts.MaxEvent = 1 << 20
	}
	b := &Broker{driver: driver, opts: opts, sessions: make(map[string]*session)}
	b.triggers = delivery.NewRegistry((*source)(b), delivery.Options{
		Observer: opts.Observer, Logger: opts.Logger, Publish: b.Publish,
	})
	return b
}

// MaxEvent implements broker.Limiter.
func (b *Broker) MaxEvent() int { return b.opts.MaxEvent }

// Publish implements broker.Publisher.
func (b *Broker) Publish(ctx context.Context, events ...event.Event) error {
	if len(events) == 0 {
		return nil
	}
	checked, err := delivery.CheckEvents(events, b.opts.MaxEvent)
	if err != nil {
		return err
	}
	b.publishing.RLock()
	defer b.publishing.RUnlock()
	if b.closed {
		return delivery.ErrClosed
	}
	err = b.driver.Publish(ctx, checked)
	switch {
	case fault.Is(err, fault.Invalid): // of an event that the product has no form for: it must not be tried again
		return err
	case err != nil:
		return fault.Wrap(err, fault.Unavailable, "the broker does not take events just now; they may have been taken")
	}
	if o := b.opts.Observer; o != nil {
		o.Published(len(checked))
	}
	return nil
}

// Subscribe implements broker.Broker.
func (b *Broker) Subscribe(
	ctx context.Context, t broker.Trigger, h broker.Handler,
) (broker.Subscription, error) {
	return b.triggers.Subscribe(ctx, t, h)
}

// Declare implements broker.Declarer.
func (b *Broker) Declare(ctx context.Context, triggers ...string) error {
	return b.triggers.Declare(ctx, triggers...)
}

// Forget drops a trigger for good, with the events that wait for it. For a trigger that this process serves it returns
// fault.Conflict.
func (b *Broker) Forget(ctx context.Context, trigger string) error {
	return b.triggers.Forget(trigger, func() error { return b.driver.Drop(ctx, trigger) })
}

// Stats returns the counts of the triggers that this process serves, in no order. Lag is 0: a queue does not say how
// much waits in it.
func (b *Broker) Stats() []broker.Stats {
	out := b.triggers.Stats()
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range out {
		if s := b.sessions[out[i].Trigger]; s != nil {
			out[i].Open, out[i].Paused = s.engine.Unfinished(), s.engine.PausedSince()
		}
	}
	return out
}

// Close implements broker.Broker. Handlers that run may still publish; when ctx ends before they return, their contexts
// are cancelled and what they were handed comes again after its visibility.
func (b *Broker) Close(ctx context.Context) error {
	return b.triggers.Close(ctx, func() error {
		b.publishing.Lock()
		b.closed = true
		b.publishing.Unlock()
		return b.driver.Close()
	})
}

// source is the Broker as package delivery sees it.
type source Broker

// Register implements delivery.Source.
func (s *source) Register(ctx context.Context, trigger string) error {
	return s.driver.Declare(ctx, trigger)
}

// Serve implements delivery.Source: it receives until ctx ends.
func (s *source) Serve(ctx context.Context, t *delivery.Trigger) error {
	queue, err := s.driver.Open(ctx, t.Name())
	if err != nil {
		return err
	}
	defer queue.Close()
	if q, ok := queue.(Selector); ok {
		q.Select(t.Match)
	}
	session := newSession(queue, t, s.opts.Logger)
	s.mu.Lock()
	s.sessions[t.Name()] = session
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.sessions, t.Name())
		s.mu.Unlock()
	}()
	return session.run(ctx)
}
