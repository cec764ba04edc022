package sqs

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/attempts"
	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue"
	"github.com/ebb-dev/ebb/infra/broker/sqs/sns"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/awsconfig"
)

// most is how many messages one request receives, deletes or extends.
const most = 10

// queue receives from the queue of a trigger. It implements eventqueue.Queue.
type queue struct {
	driver       *driver
	trigger, url string
	logger       *slog.Logger
	attempts     attempts.Store
	matches      func(*event.Event) bool // nil: all events are for the trigger

	mu   sync.Mutex
	held map[string]*holding // by receipt handle
}

// holding is a message that is held.
type holding struct {
	tries  string // the key of the blob with the attempts at its event
	stored bool   // there may be such a blob
}

var (
	_ eventqueue.Queue    = (*queue)(nil)
	_ eventqueue.Selector = (*queue)(nil)
)

// Select implements eventqueue.Selector: the data of other events is not read from the store of blobs.
func (q *queue) Select(matches func(*event.Event) bool) { q.matches = matches }

// Open implements eventqueue.Driver. It makes queues again that were deleted.
func (d *driver) Open(ctx context.Context, trigger string) (eventqueue.Queue, error) {
	if err := d.Declare(ctx, trigger); err != nil {
		return nil, err
	}
	logger := d.cfg.Logger.With("trigger", trigger)
	return &queue{
		driver: d, trigger: trigger, url: d.url(d.queueName(trigger)), held: make(map[string]*holding),
		logger: logger, attempts: attempts.New(d.cfg.Blobs, d.cfg.Name, trigger, logger),
	}, nil
}

// Receive implements eventqueue.Queue.
func (q *queue) Receive(ctx context.Context, limit int) ([]eventqueue.Message, error) {
	for {
		longer, end := eventqueue.Linger(ctx)
		limited, done := q.driver.lifetime.BindTimeout(longer, q.driver.cfg.Wait+callTimeout)
		out, err := q.driver.sqs.ReceiveMessage(limited, &sqs.ReceiveMessageInput{
			QueueUrl: &q.url, MaxNumberOfMessages: int32(min(limit, most)),
			VisibilityTimeout: int32(q.Visibility().Seconds()), WaitTimeSeconds: int32(q.driver.cfg.Wait.Seconds()),
			MessageSystemAttributeNames: []types.MessageSystemAttributeName{
				types.MessageSystemAttributeNameApproximateReceiveCount,
			},
		})
		done()
		end()
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil && q.driver.lifetime.Ended():
			return nil, context.Canceled
		case err != nil:
			return nil, awsconfig.Fault(ctx, err, "SQS")
		}
		messages := q.take(context.WithoutCancel(ctx), out.Messages)
		if len(messages) > 0 || ctx.Err() != nil {
			return messages, ctx.Err()
		}
		if q.driver.cfg.Wait < time.Second {
			delivery.Pause(ctx, q.driver.cfg.Wait)
		}
	}
}

// take returns the messages that are events. A message that is none is moved to the dead-letter queue. One whose data
// cannot be read just now, and those after it of its key, are given back. Reading ends early enough to extend messages.
func (q *queue) take(ctx context.Context, received []types.Message) (out []eventqueue.Message) {
	events := q.decode(ctx, received)
	// Its own time: data that was slow must not reset attempts.
	ctx, done := q.driver.lifetime.BindTimeout(ctx, q.Visibility()/4)
	defer done()
	var back []types.Message
	waits := map[string]bool{} // keys
	for i, d := range events {
		r, e, err := received[i], d.event, d.err
		m := eventqueue.Message{Receipt: aws.ToString(r.ReceiptHandle)}
		var gone *sns.Gone
		if errors.As(err, &gone) {
			var result broker.Result
			e, result = gone.Refused()
			err, m.Refused = nil, &result
		}
		if err == nil {
			e, _, err = delivery.CheckEvent(e, 2*(1<<20)) // of other programs
		}
		if fault.Is(err, fault.Invalid) {
			q.park(ctx, r, err)
			continue
		}
		key := delivery.PartitionKey(&e)
		if err != nil {
			q.logger.Warn("the data of an event cannot be read just now; its message comes again", "event", e.ID(),
				"error", err)
		}
		if err != nil || key != "" && waits[key] {
			waits[key], back = true, append(back, r)
			continue
		}
		m.Event = e
		h := &holding{tries: q.attempts.Key(&e)}
		if n := receives(r); n > 1 {
			m.Lost, h.stored = n-1, true
			m.Tries = q.attempts.Load(ctx, h.tries)
		}
		q.mu.Lock()
		q.held[m.Receipt] = h
		q.mu.Unlock()
		out = append(out, m)
	}
	q.giveBack(ctx, back)
	return out
}

// decoded is the event of a message, or why there is none.
type decoded struct {
	event event.Event
	err   error
}

// decode reads the events of messages, all at once, since the data of each may be in the store of blobs. An event that
// is not for the trigger is returned without such data: it is only acknowledged.
func (q *queue) decode(ctx context.Context, received []types.Message) []decoded {
	ctx, done := q.driver.lifetime.BindTimeout(ctx, q.Visibility()/4)
	defer done()
	out := make([]decoded, len(received))
	var running sync.WaitGroup
	for i, r := range received {
		e, load, err := sns.Read([]byte(aws.ToString(r.Body)), q.driver.cfg.Blobs)
		if out[i] = (decoded{e, err}); load != nil && (q.matches == nil || q.matches(&e)) {
			running.Go(func() { out[i].event, out[i].err = load(ctx) })
		}
	}
	running.Wait()
	return out
}

// receives returns how often SQS has handed a message out, this time included.
func receives(m types.Message) int {
	n, _ := strconv.Atoi(m.Attributes["ApproximateReceiveCount"])
	return n
}

// blobPause is how long a message is hidden whose event could not be read, for each time that it was received. So the
// redrive policy does not move it before the store of blobs has been away for days.
const (
	blobPause    = time.Second
	maxBlobPause = 5 * time.Minute
)

func (q *queue) giveBack(ctx context.Context, messages []types.Message) {
	var receipts []string
	most := 1
	for _, m := range messages {
		receipts, most = append(receipts, aws.ToString(m.ReceiptHandle)), max(most, receives(m))
	}
	pause := min(time.Duration(most)*blobPause, maxBlobPause)
	if _, err := q.hide(context.WithoutCancel(ctx), receipts, pause); err != nil {
		q.logger.Warn("messages were not given back; they come again when their visibility has run out", "error", err)
	}
}

// park moves a message to the dead-letter queue.
func (q *queue) park(ctx context.Context, m types.Message, why error) {
	q.logger.Error("a message is no CloudEvent that can be handled; it is moved to the dead-letter queue",
		"queue", q.driver.queueName(q.trigger), "message", aws.ToString(m.MessageId), "error", why)
	ctx, done := q.driver.lifetime.BindTimeout(context.WithoutCancel(ctx), callTimeout)
	defer done()
	_, err := q.driver.sqs.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl: aws.String(q.driver.url(q.driver.deadName(q.trigger))), MessageBody: m.Body,
		MessageGroupId: m.MessageId, MessageDeduplicationId: m.MessageId,
	})
	if err == nil {
		_, err = q.driver.sqs.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &q.url, ReceiptHandle: m.ReceiptHandle})
	}
	if err != nil {
		q.logger.Warn("the message comes again", "error", err)
	}
}

// entry is one message of a request about several.
type entry struct{ id, receipt string }

// inBatches calls do with up to ten receipts at a time.
func inBatches(receipts []string, do func([]entry) error) error {
	for len(receipts) > 0 {
		n := min(len(receipts), most)
		batch := make([]entry, n)
		for i, r := range receipts[:n] {
			batch[i] = entry{strconv.Itoa(i), r}
		}
		if err := do(batch); err != nil {
			return err
		}
		receipts = receipts[n:]
	}
	return nil
}

// lost reports whether a message of a request failed because its receipt does not hold it any more.
func lost(f types.BatchResultErrorEntry) bool {
	switch code := aws.ToString(f.Code); code {
	case "ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue", "InvalidParameterValueException",
		"AWS.SimpleQueueService.MessageNotInflight":
		return true
	}
	return false
}

func failed(f types.BatchResultErrorEntry) error {
	return fault.New(fault.Unavailable, "SQS has refused a message: %s", aws.ToString(f.Code))
}

// Ack implements eventqueue.Queue.
func (q *queue) Ack(ctx context.Context, receipts []string) error {
	receipts = q.stillHeld(receipts)
	ctx, done := q.driver.lifetime.BindTimeout(ctx, callTimeout)
	defer done()
	return inBatches(receipts, func(batch []entry) error {
		in := &sqs.DeleteMessageBatchInput{QueueUrl: &q.url}
		for _, e := range batch {
			in.Entries = append(in.Entries, types.DeleteMessageBatchRequestEntry{Id: &e.id, ReceiptHandle: &e.receipt})
		}
		out, err := q.driver.sqs.DeleteMessageBatch(ctx, in)
		if err != nil {
			return awsconfig.Fault(ctx, err, "SQS")
		}
		for _, f := range out.Failed {
			if !lost(f) {
				return failed(f)
			}
		}
		for _, e := range batch {
			q.forget(ctx, e.receipt)
		}
		return nil
	})
}

// stillHeld returns the receipts that were neither acknowledged nor given back.
func (q *queue) stillHeld(receipts []string) (out []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range receipts {
		if q.held[r] != nil {
			out = append(out, r)
		}
	}
	return out
}

// forget drops a message that is finished, and the attempts at it.
func (q *queue) forget(ctx context.Context, receipt string) {
	q.mu.Lock()
	h := q.held[receipt]
	delete(q.held, receipt)
	q.mu.Unlock()
	if h != nil && h.stored {
		q.attempts.Delete(ctx, h.tries)
	}
}

// Nack implements eventqueue.Queue.
func (q *queue) Nack(ctx context.Context, receipts []string, delay time.Duration) error {
	receipts = q.stillHeld(receipts)
	if _, err := q.hide(ctx, receipts, delay); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range receipts {
		delete(q.held, r)
	}
	return nil
}

// Extend implements eventqueue.Queue.
func (q *queue) Extend(ctx context.Context, receipts []string) ([]string, error) {
	gone, err := q.hide(ctx, receipts, q.Visibility())
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range gone {
		delete(q.held, r)
	}
	return gone, err
}

// hide sets for how long messages are hidden from now on. It returns the receipts that do not hold their message.
func (q *queue) hide(ctx context.Context, receipts []string, d time.Duration) (gone []string, err error) {
	ctx, done := q.driver.lifetime.BindTimeout(ctx, callTimeout)
	defer done()
	timeout := int32((d + time.Second - 1) / time.Second)
	err = inBatches(receipts, func(batch []entry) error {
		in := &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &q.url}
		for _, e := range batch {
			in.Entries = append(in.Entries, types.ChangeMessageVisibilityBatchRequestEntry{
				Id: &e.id, ReceiptHandle: &e.receipt, VisibilityTimeout: timeout,
			})
		}
		out, err := q.driver.sqs.ChangeMessageVisibilityBatch(ctx, in)
		if err != nil {
			return awsconfig.Fault(ctx, err, "SQS")
		}
		for _, f := range out.Failed {
			if !lost(f) {
				return failed(f)
			}
			if n, err := strconv.Atoi(aws.ToString(f.Id)); err == nil && n < len(batch) {
				gone = append(gone, batch[n].receipt)
			}
		}
		return nil
	})
	return gone, err
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
