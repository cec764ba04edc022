package rabbitmq

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue"
)

// queue consumes the shards of a trigger by one channel, whose end ends all holds. It implements eventqueue.Queue.
type queue struct {
	driver *driver
	ch     *amqp.Channel
	logger *slog.Logger
	shards []*shard
	closed chan struct{} // closed by Close

	deliveries chan received
	ended      chan error // has the reason when the channel or a consumer has ended

	mu    sync.Mutex
	held  map[string]*holding // by receipt
	again []*holding          // given back, and messages that came behind those; in order
	due   chan struct{}       // has room for one: the first of again may have become due
	given int                 // how often something was given back; it makes receipts differ
}

var _ eventqueue.Queue = (*queue)(nil)

// shard is a queue of RabbitMQ with the attempts at its events.
type shard struct {
	name string

	mu     sync.Mutex
	loaded bool
	tries  map[string]delivery.Tries // by the event's source and id
	stale  bool                      // some are stored of an event that has finished
}

type received struct {
	shard *shard
	amqp.Delivery
}

// holding is a message that is held. One that is given back stays with this consumer: RabbitMQ would hand it out again
// behind the messages that this consumer has got since, and no other consumer gets any while it is active. When the
// channel ends, RabbitMQ puts all of them back in order.
type holding struct {
	shard   *shard
	tag     uint64
	key     string // of its partition; "": none
	id      string // source and id of its event
	message eventqueue.Message
	waits   bool // given back with a delay that has not passed
}

// Open implements eventqueue.Driver. It makes queues again that were deleted.
func (d *driver) Open(ctx context.Context, trigger string) (eventqueue.Queue, error) {
	if err := d.Declare(ctx, trigger); err != nil {
		return nil, err
	}
	ch, err := d.channel(ctx)
	if err != nil {
		return nil, err
	}
	q := &queue{
		driver: d, ch: ch, logger: d.cfg.Logger.With("trigger", trigger), closed: make(chan struct{}),
		deliveries: make(chan received), ended: make(chan error, 1), held: make(map[string]*holding),
		due: make(chan struct{}, 1),
	}
	if err := q.consume(trigger); err != nil {
		q.Close()
		return nil, d.explain(err)
	}
	return q, nil
}

func (q *queue) consume(trigger string) error {
	if err := q.ch.Qos(q.driver.cfg.Prefetch, 0, false); err != nil { // for each consumer
		return err
	}
	closing := q.ch.NotifyClose(make(chan *amqp.Error, 1))
	cancelled := q.ch.NotifyCancel(make(chan string, q.driver.cfg.Shards))
	for i := range q.driver.cfg.Shards {
		s := &shard{name: q.driver.queueName(trigger, i)}
		messages, err := q.ch.Consume(s.name, "", false, false, false, false, nil)
		if err != nil {
			return err
		}
		q.shards = append(q.shards, s)
		go q.forward(s, messages)
	}
	go q.watch(closing, cancelled)
	q.driver.mu.Lock()
	q.driver.open[q] = true
	q.driver.mu.Unlock()
	return nil
}

// forward passes the messages of a shard on.
func (q *queue) forward(s *shard, messages <-chan amqp.Delivery) {
	for m := range messages {
		select {
		case q.deliveries <- received{s, m}:
		case <-q.closed:
			return
		}
	}
}

// watch waits for the end of the channel, or of a consumer, whose queue was deleted.
func (q *queue) watch(closing <-chan *amqp.Error, cancelled <-chan string) {
	var err error
	select {
	case why := <-closing:
		err = errors.New("the channel was closed")
		if why != nil {
			err = why
		}
	case <-cancelled:
		err = errors.New("the queue was deleted")
	case <-q.closed:
		return
	}
	q.end(q.driver.explain(err))
}

// end makes Receive return the error.
func (q *queue) end(err error) {
	select {
	case q.ended <- err:
	default: // it has one
	}
}

// Receive implements eventqueue.Queue.
func (q *queue) Receive(ctx context.Context, limit int) (out []eventqueue.Message, err error) {
	for {
		if out = q.handOutAgain(limit); len(out) > 0 {
			break
		}
		select {
		case r := <-q.deliveries:
			out = q.take(ctx, out, r)
		case <-q.due:
		case err := <-q.ended:
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if len(out) > 0 {
			break
		}
	}
	for len(out) < limit {
		select {
		case r := <-q.deliveries:
			out = q.take(ctx, out, r)
		default:
			return out, nil
		}
	}
	return out, nil
}

// take appends the message, or parks it when it is no CloudEvent.
func (q *queue) take(ctx context.Context, out []eventqueue.Message, r received) []eventqueue.Message {
	e, err := eventOf(r.ContentType, r.Headers, r.Body)
	if err == nil {
		e, _, err = delivery.CheckEvent(e, 2*maxEvent) // of other programs
	}
	if err != nil {
		q.logger.Error("a message is no CloudEvent that can be handled; it is moved to the parked queue",
			"queue", r.shard.name, "message", r.MessageId, "error", err)
		if err := r.Nack(false, false); err != nil {
			q.logger.Warn("the message comes again", "error", err)
		}
		return out
	}
	m := eventqueue.Message{Receipt: strconv.FormatUint(r.DeliveryTag, 10), Event: e}
	id := e.Source() + "\x00" + e.ID()
	if n := count(r.Headers["x-delivery-count"]); n > 0 {
		m.Lost = n
		m.Tries = q.triesOf(ctx, r.shard, id)
	}
	h := &holding{shard: r.shard, tag: r.DeliveryTag, key: delivery.PartitionKey(&e), id: id, message: m}
	q.mu.Lock()
	defer q.mu.Unlock()
	if h.key != "" && slices.ContainsFunc(q.again, func(a *holding) bool { return a.key == h.key }) {
		q.again = append(q.again, h)
		return out
	}
	q.held[m.Receipt] = h
	return append(out, m)
}

// handOutAgain holds messages that were given back and are due, up to limit. Those of a key stay behind one that waits.
func (q *queue) handOutAgain(limit int) (out []eventqueue.Message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	waits := map[string]bool{}
	var left []*holding
	for _, h := range q.again {
		if h.waits || len(out) == limit || waits[h.key] {
			waits[h.key] = h.key != ""
			left = append(left, h)
			continue
		}
		q.held[h.message.Receipt] = h
		out = append(out, h.message)
	}
	q.again = left
	return out
}

func count(header any) int {
	switch n := header.(type) {
	case int64:
		return int(n)
	case int32:
		return int(n)
	}
	return 0
}

// release takes the receipts that still hold their message, and calls do for each.
func (q *queue) release(receipts []string, do func(*holding) error) error {
	for _, receipt := range receipts {
		q.mu.Lock()
		h, ok := q.held[receipt]
		q.mu.Unlock()
		if !ok {
			continue
		}
		if err := do(h); err != nil && !q.ch.IsClosed() {
			return err
		}
		q.mu.Lock()
		delete(q.held, receipt)
		q.mu.Unlock()
	}
	return nil
}

// Ack implements eventqueue.Queue. When the channel is closed all messages come again anyway.
func (q *queue) Ack(ctx context.Context, receipts []string) error {
	err := q.release(receipts, func(h *holding) error {
		h.shard.mu.Lock()
		if _, known := h.shard.tries[h.id]; known {
			delete(h.shard.tries, h.id)
			h.shard.stale = true
		}
		h.shard.mu.Unlock()
		return q.ch.Ack(h.tag, false)
	})
	if err != nil {
		return err
	}
	for _, s := range q.shards {
		s.mu.Lock()
		stale := s.stale
		s.mu.Unlock()
		if stale {
			if err := q.store(ctx, s, nil); err != nil { // until the next change
				q.logger.Warn("the attempts at finished events are still stored", "queue", s.name, "error", err)
			}
		}
	}
	return nil
}

// Nack implements eventqueue.Queue. It needs no queue with a time to live: see holding.
func (q *queue) Nack(_ context.Context, receipts []string, delay time.Duration) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	var back []*holding
	for _, receipt := range receipts {
		h := q.held[receipt]
		if h == nil {
			continue
		}
		delete(q.held, receipt)
		q.given++
		h.message.Receipt = fmt.Sprint(h.tag, ".", q.given)
		h.waits = delay > 0
		back = append(back, h)
	}
	q.again = append(q.again, back...)
	slices.SortFunc(q.again, func(a, b *holding) int { return cmp.Compare(a.tag, b.tag) })
	if delay <= 0 {
		delivery.Signal(q.due)
		return nil
	}
	time.AfterFunc(delay, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		for _, h := range back {
			h.waits = false
		}
		delivery.Signal(q.due)
	})
	return nil
}

// Extend implements eventqueue.Queue; it is not needed.
func (q *queue) Extend(context.Context, []string) ([]string, error) { return nil, nil }

// Visibility implements eventqueue.Queue: a message is held as long as the channel is open.
func (q *queue) Visibility() time.Duration { return 0 }

// Close implements eventqueue.Queue.
func (q *queue) Close() error {
	close(q.closed)
	q.driver.mu.Lock()
	delete(q.driver.open, q)
	q.driver.mu.Unlock()
	if err := q.ch.Close(); err != nil && !errors.Is(err, amqp.ErrClosed) {
		return err
	}
	return nil
}

// triesOf returns the stored attempts at an event of a shard. They are loaded when the first message comes again.
func (q *queue) triesOf(ctx context.Context, s *shard, event string) delivery.Tries {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := q.load(ctx, s); err != nil {
		q.logger.Warn("the attempts at events were not loaded", "queue", s.name, "error", err)
	}
	return s.tries[event]
}

// load reads the attempts of a shard, once. The shard is locked.
func (q *queue) load(ctx context.Context, s *shard) error {
	if s.loaded {
		return nil
	}
	return q.driver.onChannel(ctx, func(ch *amqp.Channel) error {
		m, ok, err := ch.Get(triesName(s.name), false)
		if err != nil {
			return err
		}
		stored := map[string]delivery.Tries{}
		if ok {
			if err := json.Unmarshal(m.Body, &stored); err != nil {
				q.logger.Error("the stored attempts at events cannot be read; they are counted anew", "queue", s.name,
					"error", err)
			}
			if err := m.Nack(false, true); err != nil {
				return err
			}
		}
		if s.tries == nil {
			s.tries = make(map[string]delivery.Tries)
		}
		for event, t := range stored {
			s.tries[event] = t
		}
		s.loaded = true
		return nil
	})
}

// maxTries bounds the events of a shard whose attempts are stored.
const maxTries = 4096

// SetTries implements eventqueue.Queue: it replaces the one message that has the attempts of a shard.
func (q *queue) SetTries(ctx context.Context, tries map[string]delivery.Tries) error {
	changed := map[*shard]map[string]delivery.Tries{}
	q.mu.Lock()
	for receipt, t := range tries {
		if h, ok := q.held[receipt]; ok {
			if changed[h.shard] == nil {
				changed[h.shard] = map[string]delivery.Tries{}
			}
			changed[h.shard][h.id] = t
			h.message.Tries = t
		}
	}
	q.mu.Unlock()
	for s, tries := range changed {
		if err := q.store(ctx, s, tries); err != nil {
			return err
		}
	}
	return nil
}

func (q *queue) store(ctx context.Context, s *shard, tries map[string]delivery.Tries) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := q.load(ctx, s); err != nil {
		return err
	}
	for event, t := range tries {
		if t == (delivery.Tries{}) {
			delete(s.tries, event)
			continue
		}
		if _, known := s.tries[event]; !known && len(s.tries) >= maxTries {
			q.forget(s)
		}
		s.tries[event] = t
	}
	body, err := json.Marshal(s.tries)
	if err != nil {
		return err
	}
	err = q.driver.publisher.publish(ctx, "", []string{triesName(s.name)}, []amqp.Publishing{{
		ContentType: "application/json", DeliveryMode: amqp.Persistent, Body: body,
	}})
	s.stale = false
	return err
}

// forget drops the attempts at events whose messages are not here: of a process that died after it had acknowledged
// them. Messages that were tried before come first, so that the others have come. The shard is locked.
func (q *queue) forget(s *shard) {
	here := map[string]bool{}
	q.mu.Lock()
	for _, h := range q.held {
		here[h.id] = true
	}
	for _, h := range q.again {
		here[h.id] = true
	}
	q.mu.Unlock()
	for event := range s.tries {
		if !here[event] {
			delete(s.tries, event)
		}
	}
}
