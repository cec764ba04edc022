package delivery

import (
	"context"
	"regexp"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
)

// ErrClosed is returned by a broker that is closed or closing.
var ErrClosed = fault.New(fault.Unavailable, "the broker is closed")

// Registry holds the triggers that a broker serves. Its methods may be called concurrently.
type Registry struct {
	source Source
	opts   Options
	turns  turns

	mu       sync.Mutex
	closing  bool
	triggers map[string]*Trigger
	cancels  map[*subscription]context.CancelFunc // of the handlers' contexts
	closed   chan struct{}                        // closed when Close is done
	closeErr error
}

// NewRegistry makes a registry without triggers.
func NewRegistry(source Source, opts Options) *Registry {
	return &Registry{
		source: source, opts: opts, triggers: make(map[string]*Trigger),
		cancels: make(map[*subscription]context.CancelFunc), closed: make(chan struct{}),
	}
}

// triggerName matches DNS labels (RFC 1123).
var triggerName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// Subscribe implements broker.Broker. When two subscriptions of one process have the same name, the declaration of the
// first one counts for both.
func (r *Registry) Subscribe(ctx context.Context, t broker.Trigger, h broker.Handler) (broker.Subscription, error) {
	if !triggerName.MatchString(t.Name) {
		return nil, fault.New(fault.Invalid, "invalid trigger name %q: want a DNS label", t.Name)
	}
	if h == nil {
		return nil, fault.New(fault.Invalid, "trigger %q has no handler", t.Name)
	}
	match, err := broker.Compile(t.Filters)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "trigger %q has an invalid filter", t.Name).With(fault.DetailsOf(err)...)
	}
	if err := ctx.Err(); err != nil {
		return nil, notSubscribed(err, t.Name)
	}
	tr, sub, err := r.join(ctx, t, match, h)
	if err != nil {
		return nil, err
	}
	if err := r.source.Register(ctx, t.Name); err != nil {
		sub.Close()
		return nil, notDurable(err, t.Name)
	}
	tr.register.Do(func() { close(tr.registered) })
	sub.closeWith(ctx)
	return sub, nil
}

// notDurable returns why a trigger was not registered. An error that time does not mend keeps its kind and message.
func notDurable(err error, trigger string) error {
	switch kind := fault.KindOf(err); kind {
	case fault.Conflict, fault.Denied, fault.Unauthenticated, fault.Invalid:
		return fault.Wrap(err, kind, "trigger %q was not made durable: %s", trigger, fault.Public(err))
	}
	return fault.Wrap(err, fault.Unavailable, "trigger %q cannot be made durable just now", trigger)
}

func notSubscribed(err error, trigger string) error {
	return fault.Wrap(err, fault.KindOf(err), "trigger %q was not subscribed", trigger)
}

// join adds a handler to the trigger of that name, and starts the trigger when it is not being served. It waits for a
// trigger that is stopping.
func (r *Registry) join(
	ctx context.Context, t broker.Trigger, m broker.Matcher, h broker.Handler,
) (*Trigger, *subscription, error) {
	for {
		r.mu.Lock()
		if r.closing {
			r.mu.Unlock()
			return nil, nil, ErrClosed
		}
		tr := r.triggers[t.Name]
		if tr == nil {
			tr = r.start(t, m)
		}
		sub := tr.subscribe(ctx, h)
		r.mu.Unlock()
		if sub != nil {
			return tr, sub, nil
		}
		select {
		case <-tr.ended:
		case <-ctx.Done():
			return nil, nil, notSubscribed(ctx.Err(), t.Name)
		}
	}
}

// start makes the trigger and serves it in a goroutine. The registry is locked.
func (r *Registry) start(decl broker.Trigger, m broker.Matcher) *Trigger {
	ctx, stop := context.WithCancel(context.Background())
	t := newTrigger(r, decl, m, stop)
	r.triggers[decl.Name] = t
	go r.serve(ctx, t)
	return t
}

// serve has the source serve the trigger until its last subscription is closed.
func (r *Registry) serve(ctx context.Context, t *Trigger) {
	defer func() {
		r.mu.Lock()
		delete(r.triggers, t.Name())
		r.mu.Unlock()
		close(t.ended)
	}()
	select {
	case <-t.registered:
	case <-ctx.Done():
		return
	}
	for ctx.Err() == nil {
		if err := r.source.Serve(ctx, t); err != nil && ctx.Err() == nil {
			r.opts.Logger.Warn("a trigger cannot be served just now", "trigger", t.Name(), "error", err)
			Pause(ctx, time.Second)
		}
	}
}

// Declare makes triggers durable that other processes serve.
func (r *Registry) Declare(ctx context.Context, triggers ...string) error {
	for _, trigger := range triggers {
		if !triggerName.MatchString(trigger) {
			return fault.New(fault.Invalid, "invalid trigger name %q: want a DNS label", trigger)
		}
		if err := r.source.Register(ctx, trigger); err != nil {
			return notDurable(err, trigger)
		}
	}
	return nil
}

// Forget calls drop when the trigger is not being served, and holds off new subscriptions meanwhile. For a trigger that
// is being served it returns fault.Conflict.
func (r *Registry) Forget(trigger string, drop func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.triggers[trigger] != nil {
		return fault.New(fault.Conflict, "trigger %q is being served", trigger)
	}
	return drop()
}

// Stats returns what was counted for each trigger that is being served, in no order. Open and Lag are left to the
// source.
func (r *Registry) Stats() []broker.Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]broker.Stats, 0, len(r.triggers))
	for _, t := range r.triggers {
		out = append(out, t.stats())
	}
	return out
}

// Close stops all triggers and waits until ctx ends for the handlers that run, cancels the contexts of those that still
// do, and calls release. It returns the error of release, or fault.Timeout when handlers were still running. A second
// call waits for the first one and returns the same.
func (r *Registry) Close(ctx context.Context, release func() error) error {
	r.mu.Lock()
	if r.closing {
		r.mu.Unlock()
		<-r.closed
		return r.closeErr
	}
	r.closing = true
	triggers := make([]*Trigger, 0, len(r.triggers))
	for _, t := range r.triggers {
		triggers = append(triggers, t)
	}
	r.mu.Unlock()
	defer close(r.closed)

	for _, t := range triggers {
		t.stopServing()
	}
	late := false
	for _, t := range triggers {
		select {
		case <-t.ended:
		case <-ctx.Done():
			late = true
		}
	}
	r.cancelHandlers()
	r.closeErr = release()
	if late && r.closeErr == nil {
		r.closeErr = fault.Wrap(ctx.Err(), fault.Timeout, "the broker was closed while handlers were running")
	}
	return r.closeErr
}

func (r *Registry) cancelHandlers() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, cancel := range r.cancels {
		cancel()
	}
	clear(r.cancels)
}

// release cancels the context of the subscription's handler.
func (r *Registry) release(s *subscription) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cancel := r.cancels[s]; cancel != nil {
		cancel()
		delete(r.cancels, s)
	}
}

// Pause waits for d, or less when ctx ends.
func Pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Signal wakes the one reader of ch, which has room for one. A reader that is awake already looks again.
func Signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
