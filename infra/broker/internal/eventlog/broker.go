package eventlog

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

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

	// FlushInterval is how often a log that is a Syncer is synced; 0: its Append does that.
	FlushInterval time.Duration

	// Retention is how long the log of an Ager keeps events for a trigger that no process serves; 0: DefaultRetention,
	// negative: for ever. See forget.go.
	Retention time.Duration
}

// Broker is a broker.Broker over a Log. Drivers embed it.
type Broker struct {
	log      Log
	opts     Options
	triggers *delivery.Registry
	reader   sharedReader

	flush    flusher
	flushEnd chan struct{}

	pubMu     sync.Mutex
	pending   []*submission
	pubClosed bool
	submitted chan struct{} // something is pending
	appended  chan struct{} // closed when the append loop has ended

	mu       sync.Mutex
	sessions map[string]*session // the triggers that this process serves

	saving    chan struct{} // has room for the one that takes cursors and saves them
	dirty     chan struct{} // cursors have moved, or the log has grown
	lastTrim  atomic.Uint64
	started   time.Time
	stopKeep  context.CancelFunc // stops keep and flushLoop
	keeperEnd chan struct{}
}

var (
	_ broker.Broker   = (*Broker)(nil)
	_ broker.Limiter  = (*Broker)(nil)
	_ broker.Declarer = (*Broker)(nil)
	_ delivery.Source = (*source)(nil)
)

// New starts a broker over the log, which it owns from now on.
func New(log Log, opts Options) (*Broker, error) {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.MaxEvent == 0 {
		opts.MaxEvent = 1 << 20
	}
	if opts.Retention == 0 {
		opts.Retention = DefaultRetention
	}
	b := &Broker{
		log: log, opts: opts, started: time.Now(), sessions: make(map[string]*session),
		submitted: make(chan struct{}, 1), appended: make(chan struct{}),
		saving: make(chan struct{}, 1), dirty: make(chan struct{}, 1),
		keeperEnd: make(chan struct{}), flushEnd: make(chan struct{}),
	}
	b.triggers = delivery.NewRegistry((*source)(b), delivery.Options{
		Observer: opts.Observer, Logger: opts.Logger, Publish: b.publishDurably,
	})
	end, err := b.begin(context.Background())
	var gaps []Gap
	if j, ok := log.(Jumper); ok && err == nil {
		gaps, err = j.Jumps(context.Background())
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "the broker's log cannot be read")
	}
	b.reader.init(b, end, gaps)
	if n, ok := log.(Notifier); ok {
		n.Notify(func() { delivery.Signal(b.reader.grown) })
	}
	go b.appendLoop()
	keeping, stop := context.WithCancel(context.Background())
	b.stopKeep = stop
	go b.keep(keeping)
	if s, ok := log.(Syncer); ok && opts.FlushInterval > 0 {
		b.flush.log = s
		go b.flushLoop(keeping, opts.FlushInterval)
	} else {
		close(b.flushEnd)
	}
	return b, nil
}

// begin returns the end of the log, and sets back cursors that are after it. A log that lost its end, to a power cut or
// a damaged disk, writes the next events at positions that triggers have passed: without this they would never be
// handed out. It is done before anything is appended, since later it could not be told.
func (b *Broker) begin(ctx context.Context) (end uint64, err error) {
	cursors, err := b.log.Cursors(ctx)
	if err != nil {
		return 0, err
	}
	if end, err = b.log.End(ctx); err != nil {
		return 0, err
	}
	mended, last := map[string][]byte{}, end
	for name, saved := range cursors {
		cur, err := decodeCursor(saved)
		if err == nil && cur.Next > end {
			last = max(last, cur.Next)
			mended[name] = cur.clamp(end).encode()
		}
	}
	if len(mended) == 0 {
		return end, nil
	}
	b.opts.Logger.Error("the broker's log has lost its end; what was not yet flushed is published again from the "+
		"outboxes, but if this was no power cut, restore the data directory from a backup, or "+
		"replay from the archive what is missing",
		"lost_from", end, "lost_to", last-1, "triggers", len(mended))
	return end, b.log.SaveCursors(ctx, mended)
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

// Forget drops a trigger for good: its cursor is lost, and the log no longer keeps events for it.
// For a trigger that is being served it returns fault.Conflict.
func (b *Broker) Forget(ctx context.Context, trigger string) error {
	return b.triggers.Forget(trigger, func() error { return b.log.DropCursor(ctx, trigger) })
}

// Stats returns the counts of the triggers that this process serves, in no order.
func (b *Broker) Stats() []broker.Stats {
	out := b.triggers.Stats()
	for i := range out {
		if s := b.session(out[i].Trigger); s != nil {
			out[i].Open, out[i].Paused = s.engine.Unfinished(), s.engine.PausedSince()
			out[i].Lag = b.reader.lag(s.position())
		}
	}
	return out
}

// Close implements broker.Broker. Handlers that run may still publish; when ctx ends before they return, their contexts
// are cancelled and what they were handed comes again after the next start.
func (b *Broker) Close(ctx context.Context) error {
	return b.triggers.Close(ctx, func() error {
		b.reader.stop()
		b.stopPublishing()
		b.stopKeep()
		<-b.keeperEnd
		<-b.flushEnd
		return b.log.Close()
	})
}

func (b *Broker) session(trigger string) *session {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sessions[trigger]
}

// publishDurably publishes replies. Nothing would publish them again, so that they must survive a power cut as well.
func (b *Broker) publishDurably(ctx context.Context, replies ...event.Event) error {
	if err := b.Publish(ctx, replies...); err != nil {
		return err
	}
	return b.Flush(ctx)
}
