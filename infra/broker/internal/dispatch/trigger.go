package dispatch

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
)

// trigger is a trigger that this process serves, or would serve if it had the lease.
type trigger struct {
	core  *Core
	decl  broker.Trigger
	match broker.Matcher

	stopping   context.Context
	stop       context.CancelFunc
	registered chan struct{} // closed when the trigger is durably known
	register   sync.Once
	ended      chan struct{} // closed when no handler runs and the place is saved

	mu    sync.Mutex
	subs  []*subscription
	turn  int
	queue *queue // nil: not being served just now

	delivered, retried, deadLettered, dropped atomic.Uint64
}

func newTrigger(c *Core, decl broker.Trigger, m broker.Matcher) *trigger {
	decl.Batch, decl.Concurrency = max(decl.Batch, 1), max(decl.Concurrency, 1)
	t := &trigger{core: c, decl: decl, match: m, registered: make(chan struct{}), ended: make(chan struct{})}
	t.stopping, t.stop = context.WithCancel(context.Background())
	return t
}

// known makes the trigger durable: a new one begins at the end of the log.
func (t *trigger) known(ctx context.Context) error {
	log, name := t.core.log, t.decl.Name
	cur, err := log.LoadCursor(ctx, name)
	if err == nil && cur == nil {
		var end uint64
		if end, err = log.End(ctx); err == nil {
			err = log.CreateCursor(ctx, name, Cursor{Next: end}.encode())
		}
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "trigger %q cannot be made durable just now", name)
	}
	t.register.Do(func() { close(t.registered) })
	return nil
}

// serve hands out events until the last subscription is closed.
func (t *trigger) serve() {
	defer t.finish()
	select {
	case <-t.registered:
	case <-t.stopping.Done():
		return
	}
	for t.stopping.Err() == nil {
		lost, release, err := t.lease()
		if err == nil {
			err = t.session(lost)
			release()
		}
		if err != nil && t.stopping.Err() == nil {
			t.core.opts.Logger.Warn("a trigger cannot be served just now", "trigger", t.decl.Name, "error", err)
			pause(t.stopping, time.Second)
		}
	}
}

func (t *trigger) finish() {
	t.core.mu.Lock()
	delete(t.core.triggers, t.decl.Name)
	t.core.mu.Unlock()
	close(t.ended)
}

func (t *trigger) lease() (<-chan struct{}, func(), error) {
	if l, ok := t.core.log.(Leaser); ok {
		return l.Lease(t.stopping, t.decl.Name)
	}
	return nil, func() {}, nil
}

// session serves the trigger from its saved place until it is stopped or the lease is lost.
func (t *trigger) session(lost <-chan struct{}) error {
	b, err := t.core.log.LoadCursor(t.stopping, t.decl.Name)
	if err != nil {
		return err
	}
	cur, err := decodeCursor(b)
	if err != nil {
		return err
	}
	q := newQueue(t, cur.Next)
	if err := q.restore(t.stopping, cur); err != nil {
		return err
	}
	t.setQueue(q)
	ctx, cancel := context.WithCancel(t.stopping)
	go func() {
		select {
		case <-lost:
			cancel()
		case <-ctx.Done():
		}
	}()
	q.feed(ctx)
	cancel()
	t.core.hub.leave(q)
	q.halt()
	t.setQueue(nil)
	select {
	case <-lost: // another process has the trigger, and its cursor
		return nil
	default:
		return t.savePlace(q)
	}
}

func (t *trigger) savePlace(q *queue) error {
	b := q.takeCursor()
	if b == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), appendTimeout)
	defer cancel()
	return t.core.log.SaveCursors(ctx, map[string][]byte{t.decl.Name: b})
}

func (t *trigger) setQueue(q *queue) {
	t.mu.Lock()
	t.queue = q
	t.mu.Unlock()
}

func (t *trigger) current() *queue {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.queue
}

func (t *trigger) stats(next uint64) broker.Stats {
	s := broker.Stats{
		Trigger: t.decl.Name, Delivered: t.delivered.Load(), Retried: t.retried.Load(),
		DeadLettered: t.deadLettered.Load(), Dropped: t.dropped.Load(),
	}
	if q := t.current(); q != nil {
		q.mu.Lock()
		s.Open = q.count
		s.Lag = next - min(next, q.next)
		q.mu.Unlock()
	}
	return s
}

// subscribe adds a handler; nil when the trigger is stopping.
func (t *trigger) subscribe(ctx context.Context, h broker.Handler) *subscription {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopping.Err() != nil {
		return nil
	}
	s := &subscription{trigger: t, handle: h, idle: make(chan struct{})}
	// A handler may finish what it does after the subscription is over, as its Close promises.
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.unwatch = append(s.unwatch, context.AfterFunc(t.core.life, s.cancel))
	t.subs = append(t.subs, s)
	return s
}

// next is the handler whose turn it is; nil when there is none any more.
func (t *trigger) next() *subscription {
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

func (t *trigger) stopAll() {
	t.mu.Lock()
	t.stop()
	t.mu.Unlock()
}

// subscription is one handler of a trigger.
type subscription struct {
	trigger *trigger
	handle  broker.Handler
	ctx     context.Context
	cancel  context.CancelFunc

	running int // guarded by trigger.mu, as are closed and unwatch
	closed  bool
	unwatch []func() bool // end the watches over contexts that live longer
	idle    chan struct{} // closed when it is closed and nothing runs
}

// endWith closes the subscription when ctx ends.
func (s *subscription) endWith(ctx context.Context) {
	unwatch := context.AfterFunc(ctx, func() { s.Close() })
	s.trigger.mu.Lock()
	defer s.trigger.mu.Unlock()
	s.unwatch = append(s.unwatch, unwatch)
}

// Close implements broker.Subscription. A handler must not call it on its own subscription.
func (s *subscription) Close() error {
	t := s.trigger
	t.mu.Lock()
	if !s.closed {
		s.closed = true
		t.subs = slices.DeleteFunc(t.subs, func(o *subscription) bool { return o == s })
		if len(t.subs) == 0 {
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
	for _, end := range unwatch {
		end()
	}
	s.cancel()
	return nil
}

// leave notes that a call of the handler has returned.
func (s *subscription) leave() {
	s.trigger.mu.Lock()
	defer s.trigger.mu.Unlock()
	s.running--
	if s.closed && s.running == 0 {
		close(s.idle)
	}
}
