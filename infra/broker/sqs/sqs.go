// Package sqs is the broker over Amazon SNS and SQS: a FIFO topic to which every event is published, and a FIFO queue
// for each trigger. Package sns below it publishes, and says how an event looks as a message.
//
// For the broker NAME and its trigger T it makes, unless they exist:
//
//   - the topic NAME.fifo;
//   - the queue NAME-T.fifo, which is subscribed to the topic;
//   - the queue NAME-T-dlq.fifo. SQS moves a message there that was received more often than the redrive policy allows,
//     which is far more often than retries and restarts need, and this package one that is no CloudEvent. Nothing reads
//     it; an operator looks there.
//
// A queue that exists may have other settings, but not such that break what the broker promises.
//
// SQS hands out no further message of a partition key while one is held, to any receiver. So all processes that serve a
// trigger share its events, and the order of each key is kept. A message is held by extending its visibility, also
// while its event waits for a retry. What a process held that died comes again after the visibility; so does what SQS
// handed out to a request that had been cancelled. SQS ends each hold after 12 hours: the message comes again then.
//
// SQS cannot change a message. The attempts at an event that has failed are stored in the store of blobs. Without one
// they are counted anew after a restart, and an event that kills its process each time is moved by the redrive policy.
package sqs

import (
	"context"
	"log/slog"
	"time"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue"
	"github.com/ebb-dev/ebb/infra/broker/sqs/sns"
)

// Capabilities returns what differs from other drivers.
func Capabilities() broker.Capabilities {
	return broker.Capabilities{
		Product: "Amazon SNS and SQS, FIFO; tested with the emulator kumo only",
		Binding: "structured JSON; with the notification of SNS around it too",
		Durable: "the loss of a zone",
		Order:   "a message group of SNS and SQS",
		Sharing: "each serves some of the keys",
		Crash:   "after the visibility, 30 s",
		Filters: broker.ByDelivery, Retries: broker.ByDelivery, DeadLetters: broker.ByDelivery,
		MaxEvent: 1 << 20, Deduplicates: 5 * time.Minute,
	}
}

// Config configures a Broker.
type Config struct {
	Region string // "": AWS_REGION
	Name   string // the beginning of the names of the topic and of queues; "": ebb

	// Visibility is how long SQS hides a message that is not extended, in whole seconds; 0: 30 s.
	Visibility time.Duration

	// Wait is how long one request waits for messages, in whole seconds, up to 20; 0: 20 s. With less than a second, no
	// request waits, and the next one comes after that time; an emulator may not end a wait when a key is free again.
	Wait time.Duration

	Blobs    *blob.Store     // for events over 256 KiB, and for the attempts at events; nil: none
	Observer broker.Observer // nil: none
	Logger   *slog.Logger    // nil: slog.Default
}

// Broker is a broker.Broker over SNS and SQS.
type Broker struct {
	*eventqueue.Broker
	driver *driver
}

var _ broker.Broker = (*Broker)(nil)

// Open makes the topic unless it exists. Its errors are those of broker.Opener.
func Open(ctx context.Context, cfg Config) (*Broker, error) {
	d, err := openDriver(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &Broker{eventqueue.New(d, eventqueue.Options{
		Observer: cfg.Observer, Logger: cfg.Logger, MaxEvent: sns.MaxEvent(cfg.Blobs),
	}), d}, nil
}
