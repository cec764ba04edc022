package dispatch

import (
	"context"
	"log/slog"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Options are what the drivers' own options come down to. The zero value is right.
type Options struct {
	Observer broker.Observer // nil: none
	Logger   *slog.Logger    // nil: slog.Default
	MaxEvent int             // the largest event in bytes; 0: 1 MiB

	// SettleEvery is how often a log that is a Syncer is synced; 0: its Append does that.
	SettleEvery time.Duration
}

// Core is a broker.Broker over a Log. Drivers embed it.
type Core struct {
	log  Log
	opts Options
	hub  hub

	settle    settler
	settleEnd chan struct{}

	pubMu     sync.Mutex
	pending   []*submission
	pubClosed bool
	submitted chan struct{} // something is pending
	appended  chan struct{} // closed when the append loop has ended

	mu       sync.Mutex
	closing  bool
	triggers map[string]*trigger
	closed   chan struct{} // closed when Close is done
	closeErr error

	life      context.Context // ends when running handlers must not go on
	end       context.CancelFunc
	dirty     chan struct{} // cursors have moved, or the log has grown
	lastTrim  atomic.Uint64
	keptCtx   context.Context // ends when the keeper must stop
	stopKeep  context.CancelFunc
	keeperEnd chan struct{}
}

var (
	_ broker.Broker  = (*Core)(nil)
	_ broker.Limiter = (*Core)(nil)
)

var errClosed = fault.New(fault.Unavailable, "the broker is closed")

// New starts a broker over the log, which it owns from now on.
func New(log Log, opts Options) (*Core, error) {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.MaxEvent == 0 {
		opts.MaxEvent = 1 << 20
	}
	c := &Core{
		log: log, opts: opts,
		submitted: make(chan struct{}, 1), appended: make(chan struct{}),
		triggers: make(map[string]*trigger), closed: make(chan struct{}),
		dirty: make(chan struct{}, 1), keeperEnd: make(chan struct{}), settleEnd: make(chan struct{}),
	}
	c.life, c.end = context.WithCancel(context.Background())
	c.keptCtx, c.stopKeep = context.WithCancel(context.Background())
	end, err := c.begin()
	if err != nil {
		c.end()
		c.stopKeep()
		return nil, fault.Wrap(err, fault.Unavailable, "the broker's log cannot be read")
	}
	c.hub.init(c, end)
	if n, ok := log.(Notifier); ok {
		n.Notify(func() { signal(c.hub.grown) })
	}
	go c.appendLoop()
	go c.hub.run()
	go c.keep()
	if s, ok := log.(Syncer); ok && opts.SettleEvery > 0 {
		c.settle.log = s
		go c.settleLoop(opts.SettleEvery)
	} else {
		close(c.settleEnd)
	}
	return c, nil
}

// begin returns the end of the log, once no trigger's place is after it. A log that lost its end, to a power cut or a
// damaged disk, writes the next events at positions that triggers have passed: without this they would never be handed
// out. It is done before anything is appended, since later nobody could tell.
func (c *Core) begin() (end uint64, err error) {
	cursors, err := c.log.Cursors(c.life)
	if err != nil {
		return 0, err
	}
	if end, err = c.log.End(c.life); err != nil {
		return 0, err
	}
	mended, last := map[string][]byte{}, end
	for name, b := range cursors {
		cur, err := decodeCursor(b)
		if err == nil && cur.Next > end {
			last = max(last, cur.Next)
			mended[name] = cur.clamp(end).encode()
		}
	}
	if len(mended) == 0 {
		return end, nil
	}
	c.opts.Logger.Error("the broker's log has lost its end; what had not settled is published again from the outboxes, "+
		"but if this was no power cut, restore the data directory from a backup, or replay from the archive what is missing",
		"lost_from", end, "lost_to", last-1, "triggers", len(mended))
	return end, c.log.SaveCursors(c.life, mended)
}

// triggerName is a DNS label (RFC 1123).
var triggerName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// Subscribe implements broker.Broker. Of two subscriptions of one name in one process, the
// declaration of the one that was first is what counts for both.
func (c *Core) Subscribe(ctx context.Context, t broker.Trigger, h broker.Handler) (broker.Subscription, error) {
	if !triggerName.MatchString(t.Name) {
		return nil, fault.New(fault.Invalid, "%q is no name for a trigger: it must be a DNS label", t.Name)
	}
	if h == nil {
		return nil, fault.New(fault.Invalid, "trigger %q has no handler", t.Name)
	}
	match, err := broker.Compile(t.Filters)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "trigger %q has a bad filter", t.Name).With(fault.DetailsOf(err)...)
	}
	if err := ctx.Err(); err != nil {
		return nil, fault.Wrap(err, fault.KindOf(err), "trigger %q was not subscribed", t.Name)
	}
	tr, sub, err := c.join(ctx, t, match, h)
	if err != nil {
		return nil, err
	}
	if err := tr.known(ctx); err != nil {
		sub.Close()
		return nil, err
	}
	sub.endWith(ctx)
	return sub, nil
}

// join adds a handler to the trigger of that name, which it starts if it is not being served.
// A trigger that is just stopping is waited for.
func (c *Core) join(ctx context.Context, t broker.Trigger, m broker.Matcher, h broker.Handler) (*trigger, *subscription, error) {
	for {
		c.mu.Lock()
		if c.closing {
			c.mu.Unlock()
			return nil, nil, errClosed
		}
		tr := c.triggers[t.Name]
		if tr == nil {
			tr = newTrigger(c, t, m)
			c.triggers[t.Name] = tr
			go tr.serve()
		}
		sub := tr.subscribe(ctx, h)
		c.mu.Unlock()
		if sub != nil {
			return tr, sub, nil
		}
		select {
		case <-tr.ended:
		case <-ctx.Done():
			return nil, nil, fault.Wrap(ctx.Err(), fault.KindOf(ctx.Err()), "trigger %q was not subscribed", t.Name)
		}
	}
}

// Forget drops a trigger for good: its place is lost, and the log no longer keeps events for it.
// A trigger that is being served is fault.Conflict.
func (c *Core) Forget(ctx context.Context, trigger string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.triggers[trigger] != nil {
		return fault.New(fault.Conflict, "trigger %q is being served", trigger)
	}
	return c.log.DropCursor(ctx, trigger)
}

// Stats are the counts of the triggers this process serves, in no order.
func (c *Core) Stats() []broker.Stats {
	next := c.hub.position()
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]broker.Stats, 0, len(c.triggers))
	for _, t := range c.triggers {
		out = append(out, t.stats(next))
	}
	return out
}

// Close implements broker.Broker. Handlers that run may still publish; when ctx ends before
// they do, their contexts are cancelled and what they were handed comes again after the next start.
func (c *Core) Close(ctx context.Context) error {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		<-c.closed
		return c.closeErr
	}
	c.closing = true
	triggers := make([]*trigger, 0, len(c.triggers))
	for _, t := range c.triggers {
		triggers = append(triggers, t)
	}
	c.mu.Unlock()
	defer close(c.closed)

	for _, t := range triggers {
		t.stopAll()
	}
	late := false
	for _, t := range triggers {
		select {
		case <-t.ended:
		case <-ctx.Done():
			late = true
		}
	}
	c.end()
	c.hub.stop()
	c.stopPublishing()
	c.stopKeep()
	<-c.keeperEnd
	<-c.settleEnd
	c.closeErr = c.log.Close()
	if late && c.closeErr == nil {
		c.closeErr = fault.Wrap(ctx.Err(), fault.Timeout, "the broker was closed while handlers were running")
	}
	return c.closeErr
}

func (c *Core) stopPublishing() {
	c.pubMu.Lock()
	c.pubClosed = true
	c.pubMu.Unlock()
	signal(c.submitted)
	<-c.appended
}

// How often cursors are saved, and how the log is trimmed.
const (
	saveEvery = 50 * time.Millisecond
	trimEvery = 1024 // entries
	trimTail  = 256  // entries that stay in any case
)

// keep saves cursors that have moved and trims the log, as long as the broker is open. After
// a slow save it waits longer, so that saving never takes more than a tenth of the time.
func (c *Core) keep() {
	defer close(c.keeperEnd)
	for {
		select {
		case <-c.dirty:
		case <-c.keptCtx.Done():
			c.save()
			return
		}
		began := time.Now()
		c.save()
		c.trim()
		pause := max(saveEvery, 9*time.Since(began))
		select {
		case <-time.After(pause):
		case <-c.keptCtx.Done():
			c.save()
			return
		}
	}
}

// save writes the cursors that have moved since the last time.
func (c *Core) save() {
	c.mu.Lock()
	cursors := make(map[string][]byte)
	var saved []*queue
	for name, t := range c.triggers {
		if q := t.current(); q != nil {
			if b := q.takeCursor(); b != nil {
				cursors[name] = b
				saved = append(saved, q)
			}
		}
	}
	c.mu.Unlock()
	if len(cursors) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), appendTimeout)
	defer cancel()
	if err := c.log.SaveCursors(ctx, cursors); err != nil {
		c.opts.Logger.Warn("cursors were not saved; events may come again", "error", err)
		for _, q := range saved {
			q.touch()
		}
	}
}

// trim drops what no trigger needs any more. All known triggers count, also those that
// nobody serves just now: they go on where they stopped.
func (c *Core) trim() {
	end := c.hub.position()
	if end < c.lastTrim.Load()+trimEvery {
		return
	}
	cursors, err := c.log.Cursors(c.keptCtx)
	if err != nil {
		c.opts.Logger.Warn("the log was not trimmed", "error", err)
		return
	}
	low := end
	for name, b := range cursors {
		cur, err := decodeCursor(b)
		if err != nil {
			c.opts.Logger.Error("a cursor cannot be read; the log is not trimmed", "trigger", name, "error", err)
			return
		}
		low = min(low, cur.low())
	}
	c.lastTrim.Store(end)
	if low <= trimTail {
		return
	}
	if err := c.log.Trim(c.keptCtx, low-trimTail); err != nil {
		c.opts.Logger.Warn("the log was not trimmed", "error", err)
	}
}
