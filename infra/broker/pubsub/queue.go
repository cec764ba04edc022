package pubsub

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"

	"github.com/ebb-dev/ebb/infra/broker/internal/attempts"
	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue"
)

// pullTimeout bounds a request for messages, which Pub/Sub answers sooner when there are none.
const pullTimeout = 90 * time.Second

// queue receives from the subscription of a trigger. It implements eventqueue.Queue.
type queue struct {
	driver       *driver
	trigger, sub string
	logger       *slog.Logger
	attempts     attempts.Store

	mu   sync.Mutex
	held map[string]*holding // by ack id
}

// holding is a message that is held.
type holding struct {
	until  time.Time // when Pub/Sub hands it out again
	tries  string    // the key of the blob with the attempts at its event
	stored bool      // there may be such a blob
}

var _ eventqueue.Queue = (*queue)(nil)

// Open implements eventqueue.Driver. It makes a subscription again that was deleted.
func (d *driver) Open(ctx context.Context, trigger string) (eventqueue.Queue, error) {
	if err := d.Declare(ctx, trigger); err != nil {
		return nil, err
	}
	logger := d.cfg.Logger.With("trigger", trigger)
	return &queue{
		driver: d, trigger: trigger, sub: d.subPath(d.subName(trigger)), held: make(map[string]*holding),
		logger: logger, attempts: attempts.New(d.cfg.Blobs, d.cfg.Name, trigger, logger),
	}, nil
}

// Receive implements eventqueue.Queue.
func (q *queue) Receive(ctx context.Context, limit int) ([]eventqueue.Message, error) {
	for {
		longer, end := eventqueue.Linger(ctx)
		limited, done := q.driver.lifetime.BindTimeout(longer, pullTimeout)
		asked := time.Now()
		out, err := q.driver.subs.Pull(limited, q.request(limit))
		timeout := limited.Err() != nil
		done()
		end()
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil && timeout && !q.driver.lifetime.Ended():
			continue
		case err != nil && q.driver.lifetime.Ended():
			return nil, context.Canceled
		case err != nil:
			return nil, faultOf(ctx, err)
		}
		messages := q.take(context.WithoutCancel(ctx), out.ReceivedMessages, asked.Add(q.Visibility()))
		if len(messages) > 0 || ctx.Err() != nil {
			return messages, ctx.Err()
		}
		if q.driver.cfg.Poll > 0 {
			delivery.Pause(ctx, q.driver.cfg.Poll)
		}
	}
}

func (q *queue) request(limit int) *pubsubpb.PullRequest {
	r := &pubsubpb.PullRequest{Subscription: q.sub, MaxMessages: int32(limit)}
	if q.driver.cfg.Poll > 0 {
		//lint:ignore SA1019 it is for emulators only; see Config.Poll
		r.ReturnImmediately = true
	}
	return r
}

// take returns the messages that are events. A message that is none is moved to where an operator finds it.
func (q *queue) take(
	ctx context.Context, received []*pubsubpb.ReceivedMessage, until time.Time,
) (out []eventqueue.Message) {
	loading, done := q.driver.lifetime.BindTimeout(ctx, q.Visibility()/4) // early enough to extend messages
	defer done()
	for _, r := range received {
		e, err := decode(r.Message)
		if err == nil {
			e, _, err = delivery.CheckEvent(e, 2*maxEvent) // of other programs
		}
		if err != nil {
			q.park(ctx, r, err)
			continue
		}
		m := eventqueue.Message{Receipt: r.AckId, Event: e}
		h := &holding{until: until, tries: q.attempts.Key(&e)}
		if r.DeliveryAttempt > 1 {
			m.Lost, h.stored = int(r.DeliveryAttempt)-1, true
			m.Tries = q.attempts.Load(loading, h.tries)
		}
		q.mu.Lock()
		q.held[m.Receipt] = h
		q.mu.Unlock()
		out = append(out, m)
	}
	return out
}

// park moves a message to the dead-letter topic of the subscription.
func (q *queue) park(ctx context.Context, r *pubsubpb.ReceivedMessage, why error) {
	dead := q.driver.deadName(q.trigger)
	q.logger.Error("a message is no CloudEvent that can be handled; it is moved to the dead-letter topic",
		"topic", dead, "message", r.GetMessage().GetMessageId(), "error", why)
	ctx = context.WithoutCancel(ctx)
	err := q.driver.send(ctx, dead, []*pubsubpb.PubsubMessage{{
		Data: r.GetMessage().GetData(), Attributes: r.GetMessage().GetAttributes(),
	}})
	if err == nil {
		err = q.acknowledge(ctx, []string{r.AckId})
	}
	if err != nil {
		q.logger.Warn("the message comes again", "error", err)
	}
}

func (q *queue) acknowledge(ctx context.Context, receipts []string) error {
	return q.inBatches(ctx, receipts, func(ctx context.Context, some []string) error {
		return q.driver.subs.Acknowledge(ctx, &pubsubpb.AcknowledgeRequest{Subscription: q.sub, AckIds: some})
	})
}

// deadline sets when messages are handed out again.
func (q *queue) deadline(ctx context.Context, receipts []string, d time.Duration) error {
	seconds := int32((d + time.Second - 1) / time.Second)
	return q.inBatches(ctx, receipts, func(ctx context.Context, some []string) error {
		return q.driver.subs.ModifyAckDeadline(ctx, &pubsubpb.ModifyAckDeadlineRequest{
			Subscription: q.sub, AckIds: some, AckDeadlineSeconds: seconds,
		})
	})
}

// inBatches calls do with as many receipts at a time as one request takes.
func (q *queue) inBatches(
	ctx context.Context, receipts []string, do func(ctx context.Context, some []string) error,
) error {
	ctx, done := q.driver.lifetime.BindTimeout(ctx, callTimeout)
	defer done()
	for some := range slices.Chunk(receipts, maxReceipts) {
		if err := do(ctx, some); err != nil {
			return faultOf(ctx, err)
		}
	}
	return nil
}

// sort returns those of the receipts that hold their message, and the others. Pub/Sub does not tell.
func (q *queue) sort(receipts []string) (held, gone []string) {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range receipts {
		if h := q.held[r]; h != nil && now.Before(h.until) {
			held = append(held, r)
			continue
		}
		gone = append(gone, r)
		delete(q.held, r)
	}
	return held, gone
}

// drop forgets messages and returns the keys of what is stored about them.
func (q *queue) drop(receipts []string) (stored []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range receipts {
		if h := q.held[r]; h != nil && h.stored {
			stored = append(stored, h.tries)
		}
		delete(q.held, r)
	}
	return stored
}

// Ack implements eventqueue.Queue.
func (q *queue) Ack(ctx context.Context, receipts []string) error {
	held, _ := q.sort(receipts)
	if len(held) == 0 {
		return nil
	}
	if err := q.acknowledge(ctx, held); err != nil {
		return err
	}
	for _, key := range q.drop(held) {
		q.attempts.Delete(ctx, key)
	}
	return nil
}

// Nack implements eventqueue.Queue.
func (q *queue) Nack(ctx context.Context, receipts []string, delay time.Duration) error {
	held, _ := q.sort(receipts)
	if len(held) == 0 {
		return nil
	}
	if err := q.deadline(ctx, held, delay); err != nil {
		return err
	}
	q.drop(held)
	return nil
}

// Extend implements eventqueue.Queue.
func (q *queue) Extend(ctx context.Context, receipts []string) ([]string, error) {
	held, gone := q.sort(receipts)
	if len(held) == 0 {
		return gone, nil
	}
	until := time.Now().Add(q.Visibility())
	if err := q.deadline(ctx, held, q.Visibility()); err != nil {
		return gone, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range held {
		if h := q.held[r]; h != nil {
			h.until = until
		}
	}
	return gone, nil
}

// SetTries implements eventqueue.Queue.
func (q *queue) SetTries(ctx context.Context, tries map[string]delivery.Tries) error {
	for receipt, t := range tries {
		q.mu.Lock()
		h := q.held[receipt]
		if h != nil {
			h.stored = true
		}
		q.mu.Unlock()
		if h == nil {
			continue
		}
		ctx, done := q.driver.lifetime.BindTimeout(ctx, callTimeout)
		err := q.attempts.Save(ctx, h.tries, t)
		done()
		if err != nil {
			return err
		}
	}
	return nil
}

// Visibility implements eventqueue.Queue.
func (q *queue) Visibility() time.Duration { return q.driver.cfg.Visibility }

// Close implements eventqueue.Queue.
func (q *queue) Close() error { return nil }
