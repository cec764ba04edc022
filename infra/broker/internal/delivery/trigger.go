package delivery

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
)

// Trigger is a trigger with at least one subscription in this process.
type Trigger struct {
	registry *Registry
	decl     broker.Trigger
	match    broker.Matcher

	stop       context.CancelFunc // ends the context of Source.Serve
	registered chan struct{}      // closed when the trigger is durable
	register   sync.Once
	ended      chan struct{} // closed when no handler runs and the source has returned

	mu      sync.Mutex
	stopped bool
	subs    []*subscription
	turn    int

	delivered, retried, deadLettered, dropped atomic.Uint64
}

func newTrigger(r *Registry, decl broker.Trigger, m broker.Matcher, stop context.CancelFunc) *Trigger {
	decl.Batch, decl.Concurrency = max(decl.Batch, 1), max(decl.Concurrency, 1)
	return &Trigger{
		registry: r, decl: decl, match: m, stop: stop,
		registered: make(chan struct{}), ended: make(chan struct{}),
	}
}

// Name returns the trigger's name.
func (t *Trigger) Name() string { return t.decl.Name }

// Match reports whether the event passes the trigger's filters.
func (t *Trigger) Match(e *event.Event) bool { return t.match.Match(e) }

// Parallel returns how many events the handlers take at once at most: the size of a batch times the number of calls.
func (t *Trigger) Parallel() int { return t.decl.Batch * t.decl.Concurrency }

func (t *Trigger) stats() broker.Stats {
	return broker.Stats{
		Trigger: t.decl.Name, Delivered: t.delivered.Load(), Retried: t.retried.Load(),
		DeadLettered: t.deadLettered.Load(), Dropped: t.dropped.Load(),
	}
}

// subscribe adds a handler; it returns nil when the trigger is stopping. The registry is locked.
func (t *Trigger) subscribe(ctx context.Context, h broker.Handler) *subscription {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return nil
	}
	// A handler may finish its work after the subscription has ended, as Subscription.Close promises.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &subscription{trigger: t, handle: h, idle: make(chan struct{})}
	s.callContext = func(limit time.Duration) (context.Context, context.CancelFunc) {
		if limit > 0 {
			return context.WithTimeout(ctx, limit)
		}
		return ctx, func() {}
	}
	t.registry.cancels[s] = cancel
	t.subs = append(t.subs, s)
	return s
}

// next returns the subscription whose turn it is and counts a running call for it; nil when all are closed.
func (t *Trigger) next() *subscription {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.subs) == 0 {
		return nil
	}
	t.turn++
	s := t.subs[t.turn%len(t.subs)]
	s.running++
	return s
}

func (t *Trigger) stopServing() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	t.stop()
}

// subscription is one handler of a trigger.
type subscription struct {
	trigger *Trigger
	handle  broker.Handler

	// callContext returns the context of one call that may take as long as limit; 0: without a limit.
	callContext func(limit time.Duration) (context.Context, context.CancelFunc)

	running int // guarded by trigger.mu, as are closed and unwatch
	closed  bool
	unwatch func() bool   // ends the watch over the context of Subscribe
	idle    chan struct{} // closed when the subscription is closed and no call runs
}

// closeWith closes the subscription when ctx ends.
func (s *subscription) closeWith(ctx context.Context) {
	unwatch := context.AfterFunc(ctx, func() { s.Close() })
	s.trigger.mu.Lock()
	defer s.trigger.mu.Unlock()
	s.unwatch = unwatch
}

// Close implements broker.Subscription. A handler must not call it on its own subscription.
func (s *subscription) Close() error {
	t := s.trigger
	t.mu.Lock()
	if !s.closed {
		s.closed = true
		t.subs = slices.DeleteFunc(t.subs, func(o *subscription) bool { return o == s })
		if len(t.subs) == 0 {
			t.stopped = true
			t.stop()
		}
		if s.running == 0 {
			close(s.idle)
		}
	}
	last, unwatch := len(t.subs) == 0, s.unwatch
	t.mu.Unlock()
	<-s.idle
	if last {
		<-t.ended
	}
	if unwatch != nil {
		unwatch()
	}
	t.registry.release(s)
	return nil
}

// leave counts a call of the handler as returned.
func (s *subscription) leave() {
	s.trigger.mu.Lock()
	defer s.trigger.mu.Unlock()
	s.running--
	if s.closed && s.running == 0 {
		close(s.idle)
	}
}
