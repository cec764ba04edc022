package rabbitmq

import (
	"context"
	"errors"
	"hash/fnv"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
	"github.com/ebb-dev/ebb/infra/fault"
)

// publisher publishes by one channel with confirms, which keeps the order. A write to its connection may block for as
// long as an alarm of RabbitMQ's memory or disk lasts, so its lock is one that is waited for with a context.
type publisher struct {
	driver *driver
	lock   chan struct{}            // has room for one: the holder of the lock, which guards what follows
	wire   atomic.Pointer[net.Conn] // of the connection; not guarded

	conn    *amqp.Connection // nil: not connected
	session *session         // nil: no channel
	closed  bool
}

// session is a channel with confirms, and which of its messages no queue took.
type session struct {
	ch   *amqp.Channel
	next uint64 // the number of the next message

	// unrouted asks for the messages of these numbers that were returned. RabbitMQ returns a message before it confirms
	// it, and one goroutine handles returned messages and questions.
	unrouted chan question
	done     chan struct{} // closed when the channel is closed and the goroutine has ended
	why      error         // why the channel was closed; set before done is closed
}

type question struct {
	from, to uint64
	answer   chan bool
}

var errUnrouted = errors.New("no queue takes the event")

// Publish implements eventqueue.Driver.
func (d *driver) Publish(ctx context.Context, events []ce.Event) error {
	messages := make([]amqp.Publishing, len(events))
	keys := make([]string, len(events))
	for i := range events {
		var err error
		if messages[i], err = message(&events[i]); err != nil {
			return fault.Wrap(err, fault.Invalid, "event %q has no form in AMQP", events[i].ID())
		}
		if err := checkHeader(&messages[i]); err != nil {
			return fault.Wrap(err, fault.Invalid, "the attributes of event %.100q have no room in AMQP", events[i].ID())
		}
		keys[i] = strconv.Itoa(d.shardOf(&events[i]))
	}
	err := d.publisher.publish(ctx, d.cfg.Name, keys, messages)
	if errors.Is(err, errUnrouted) {
		if !d.hasTriggers() {
			return nil
		}
		d.cfg.Logger.Error("no queue took an event: the queues of the triggers are made again", "exchange", d.cfg.Name)
		return errors.Join(err, d.declareAgain(ctx))
	}
	var refused *amqp.Error
	if errors.As(err, &refused) && refused.Code == amqp.NotFound { // it closed the channel
		d.cfg.Logger.Error("the exchange was deleted: it is made again, with the queues of the triggers",
			"exchange", d.cfg.Name)
		return errors.Join(d.explain(err), d.onChannel(ctx, d.declareExchange), d.declareAgain(ctx))
	}
	return d.explain(err)
}

// shardOf returns the shard of an event: that of its partition key, or of its id when it has none.
func (d *driver) shardOf(e *ce.Event) int {
	if d.cfg.Shards == 1 {
		return 0
	}
	key := delivery.PartitionKey(e)
	if key == "" {
		key = e.ID()
	}
	h := fnv.New32a()
	h.Write([]byte(key))
	return int(h.Sum32() % uint32(d.cfg.Shards))
}

// publish publishes the messages in order and waits until all are confirmed.
func (p *publisher) publish(ctx context.Context, exchange string, keys []string, messages []amqp.Publishing) error {
	ctx, cancel := context.WithTimeoutCause(ctx, confirmTimeout, errors.New("RabbitMQ has not confirmed in time"))
	defer cancel()
	select {
	case p.lock <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s, err := p.open(ctx)
	if err != nil {
		<-p.lock
		return err
	}
	written := p.watchWrite(ctx)
	from := s.next
	confirms := make([]*amqp.DeferredConfirmation, len(messages))
	for i := range messages {
		messages[i].CorrelationId = strconv.FormatUint(s.next, 10)
		if confirms[i], err = s.ch.PublishWithDeferredConfirmWithContext(ctx, exchange, keys[i], true, false,
			messages[i]); err != nil {
			written()
			p.drop(s)
			<-p.lock
			return s.reason(err)
		}
		s.next++
	}
	to := s.next
	written()
	<-p.lock
	for _, c := range confirms {
		ok, err := c.WaitContext(ctx)
		if err != nil {
			return context.Cause(ctx)
		}
		if !ok {
			return s.reason(errors.New("RabbitMQ has not taken an event"))
		}
	}
	if s.returned(from, to) {
		return errUnrouted
	}
	return nil
}

// writeGrace is how long a write may go on after its context has ended.
const writeGrace = time.Second

// watchWrite cuts the connection when a write blocks after its context has ended. The caller calls written after it.
func (p *publisher) watchWrite(ctx context.Context) (written func()) {
	ended, wire := make(chan struct{}), *p.wire.Load()
	forget := context.AfterFunc(ctx, func() {
		select {
		case <-ended:
		case <-time.After(writeGrace):
			wire.Close()
		}
	})
	return func() { close(ended); forget() }
}

// reason returns why the channel was closed, if it was, and else err.
func (s *session) reason(err error) error {
	if !s.ch.IsClosed() {
		return err
	}
	<-s.done
	if s.why != nil {
		return s.why
	}
	return err
}

// returned reports whether one of the confirmed messages was returned.
func (s *session) returned(from, to uint64) bool {
	q := question{from, to, make(chan bool, 1)}
	select {
	case s.unrouted <- q:
		return <-q.answer
	case <-s.done: // the channel was closed since; all questions before had their answers
		return false
	}
}

// open returns the session, and makes one when there is none or it is closed. The publisher is locked.
func (p *publisher) open(ctx context.Context) (*session, error) {
	if p.closed {
		return nil, errClosed
	}
	if p.session != nil && !p.session.ch.IsClosed() {
		return p.session, nil
	}
	if p.conn == nil || p.conn.IsClosed() {
		conn, wire, err := p.driver.dial(ctx)
		if err != nil {
			return nil, err
		}
		p.conn = conn
		p.wire.Store(&wire)
	}
	ch, err := p.conn.Channel()
	if err != nil {
		return nil, err
	}
	if err := ch.Confirm(false); err != nil {
		return nil, err
	}
	s := &session{ch: ch, unrouted: make(chan question), done: make(chan struct{})}
	go s.watch(ch.NotifyReturn(make(chan amqp.Return)), ch.NotifyClose(make(chan *amqp.Error, 1)))
	p.session = s
	return s, nil
}

// watch notes returned messages and answers questions until the channel is closed.
func (s *session) watch(returns <-chan amqp.Return, closing <-chan *amqp.Error) {
	defer close(s.done)
	unrouted := map[uint64]bool{}
	for {
		select {
		case r, ok := <-returns:
			if !ok {
				if why := <-closing; why != nil { // it is told, or closed, before
					s.why = why
				}
				return
			}
			if n, err := strconv.ParseUint(r.CorrelationId, 10, 64); err == nil {
				unrouted[n] = true
			}
		case q := <-s.unrouted:
			found := false
			for n := q.from; n < q.to; n++ {
				found = found || unrouted[n]
				delete(unrouted, n)
			}
			q.answer <- found
		}
	}
}

// drop closes a session that failed. The publisher is locked.
func (p *publisher) drop(s *session) {
	if p.session == s {
		p.session = nil
		go s.ch.Close()
	}
}

// close closes the connection, and cuts it when a write blocks.
func (p *publisher) close() error {
	select {
	case p.lock <- struct{}{}:
	case <-time.After(dialTimeout):
		if wire := p.wire.Load(); wire != nil {
			(*wire).Close()
		}
		p.lock <- struct{}{}
	}
	defer func() { <-p.lock }()
	p.closed = true
	if p.conn == nil {
		return nil
	}
	if err := p.conn.CloseDeadline(time.Now().Add(dialTimeout)); err != nil && !errors.Is(err, amqp.ErrClosed) {
		return err
	}
	return nil
}
