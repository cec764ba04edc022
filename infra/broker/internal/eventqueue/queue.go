// Package eventqueue is the broker that all drivers over queues with acknowledgements share: RabbitMQ, SQS, Redis
// Streams. Each trigger has a queue of its own, into which the driver puts every published event. A trigger receives
// from its queue, drops what its filters refuse, hands the rest to its handlers through package delivery, and
// acknowledges what has finished.
//
// A driver supplies a Driver and embeds Broker. Package queuetest has the suite that every Driver passes.
//
// Retries, backoff and dead letters are the work of package delivery and not of the product. While an event waits for
// its retry the broker keeps holding its message, and with it the later messages of its key; it gives messages back
// only when it stops serving the trigger. So a driver turns the product's own limits off: the redrive policy of SQS,
// the delivery limit of RabbitMQ's quorum queues, which would take an event away before its retries are over.
//
// After a crash nothing gives the messages back. They come again when their visibility has run out, or when the
// product sees that the connection is gone. The product counts how often a message came again like that, and holds its
// attempts; see package delivery. What was handled but not yet acknowledged comes again as well; the inbox of a
// function knows it.
package eventqueue

import (
	"context"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
)

// Driver is a product with a queue per trigger. Its methods may be called concurrently.
type Driver interface {
	// Publish puts all of the events into the queue of every declared trigger, and returns when they are as durable as the
	// driver promises. Events of one partition key stand in the order of the slice, and after those of every Publish that
	// returned before. On an error any of the events may be in any of the queues.
	//
	// In SQS that is an SNS FIFO topic with the partition key as the message group; in RabbitMQ a fanout exchange with
	// publisher confirms; in Redis XADD to one stream that all groups read.
	Publish(ctx context.Context, events []event.Event) error

	// Declare makes the trigger's queue, durably, or finds the one from before. A new queue gets every event whose Publish
	// begins after Declare has returned, also while no process receives from it.
	//
	// In SQS that is CreateQueue and Subscribe; in RabbitMQ a quorum queue and its binding; in Redis XGROUP CREATE at $.
	Declare(ctx context.Context, trigger string) error

	// Open returns the queue of a trigger that is declared. It is called once while a trigger is served.
	Open(ctx context.Context, trigger string) (Queue, error)

	// Drop deletes the queue of a trigger with what is in it. It does nothing when there is none.
	Drop(ctx context.Context, trigger string) error

	// Close releases the driver. Messages that are still held come again. Of a handler that was still running then, Ack
	// may be called later; it may fail.
	Close() error
}

// Queue hands out the messages of one trigger at least once. A message that was received is held: no other receiver
// gets it until it is given back or its visibility has run out. Receive is called by one goroutine at a time; the other
// methods may be called concurrently with it and with one another.
type Queue interface {
	// Receive returns up to limit messages, and waits while there is none. It returns ctx.Err when ctx ends before;
	// messages that the product has handed out by then are given back, or come again when their visibility has run out.
	// Messages beside an error are taken, also beside ctx.Err; see Linger. After any other error the broker waits for its
	// handlers, closes the queue, and opens it again a second later, so a driver repeats by itself what may pass.
	//
	// Messages of one partition key come in the order in which they were published, and one that comes again comes before
	// the later ones of its key. While a message of a key is held, no other receiver gets a message of that key; this
	// receiver may. Messages without a key come in any order. A message that cannot be decoded is not returned: the driver
	// logs it and moves it to where an operator finds it.
	//
	// SQS FIFO keeps that order by message group, and then also this receiver gets nothing more of a group that it holds.
	// RabbitMQ keeps it by a single active consumer per queue, Redis Streams by one consumer that has a lease.
	Receive(ctx context.Context, limit int) ([]Message, error)

	// Ack deletes messages that are finished. A receipt that does not hold its message any more is ignored, since the
	// message comes again anyway. After an error the broker calls Ack again as long as it holds the messages; all, some or
	// none may be deleted.
	Ack(ctx context.Context, receipts []string) error

	// Nack gives messages back. They come again after the delay, to any receiver. A receipt that does not hold its message
	// any more is ignored. The broker calls it when it stops serving a trigger; after an error, or where a product cannot
	// give back, as Redis Streams, the messages come again when their visibility has run out.
	Nack(ctx context.Context, receipts []string, delay time.Duration) error

	// Extend holds messages for the whole visibility from now on. It returns the receipts that do not hold their message
	// any more. After an error all, some or none may be extended, and the broker tries again while it holds them.
	//
	// In SQS that is ChangeMessageVisibility, in Redis XCLAIM with an idle time of 0. It is not called when Visibility is
	// 0.
	Extend(ctx context.Context, receipts []string) (lost []string, err error)

	// SetTries stores the attempts at messages that are held, by receipt, until the messages are deleted. It returns when
	// they survive the death of the process. A receipt that does not hold its message any more is ignored. It is called
	// seldom: for messages that failed, and before each attempt at one that came again without an answer several times.
	//
	// In Redis that is a hash beside the stream. RabbitMQ and SQS cannot change a message: there it is a small queue or
	// table of the driver's own, by the event's source and id.
	SetTries(ctx context.Context, tries map[string]delivery.Tries) error

	// Visibility returns how long a message is held that is not extended; 0: as long as the process is connected, as
	// RabbitMQ holds it, whose consumer timeout then must be longer than the longest wait for a retry.
	Visibility() time.Duration

	// Close ends the receiving. Messages that are still held come again. No other method is called after it.
	Close() error
}

// linger is how much longer than its context a request for messages lasts.
const linger = time.Second

// Linger returns a copy of ctx that ends a second after ctx, for a request that receives messages. A server may be
// handing messages out for a request that its client gives up, and they would stay hidden until their visibility has
// run out. The caller calls the function that it returns as soon as the context is not needed any more.
func Linger(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(linger):
			cancel()
		case <-longer.Done():
		}
	})
	return longer, func() { stop(); cancel() }
}

// Selector is a Queue that need not read all of an event that is not for its trigger, such as data that lies elsewhere.
type Selector interface {
	// Select sets what reports whether the filters of the trigger let an event through. It is called before Receive, and
	// looks at the attributes only. Receive returns the other events too, for they are acknowledged.
	Select(matches func(*event.Event) bool)
}

// Message is an event as a queue hands it out.
type Message struct {
	// Receipt names this handing-out of the message, and another one when the message comes again: a receipt handle, a
	// delivery tag, the id of an entry with its delivery count.
	Receipt string
	Event   event.Event

	// Lost is how often the message came again without having been acknowledged or given back: a receive count. A product
	// that also counts what was given back, or what no handler had begun, only makes the handling of the message
	// slower.
	Lost  int
	Tries delivery.Tries // as SetTries stored them last

	// Refused says why no handler may have the event, such as data of a large event that is gone: it becomes a dead letter
	// with this result. Nil: it is handed out.
	Refused *broker.Result
}
