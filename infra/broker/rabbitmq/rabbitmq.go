// Package rabbitmq is the broker over RabbitMQ, 3.10 or later.
//
// For the broker NAME and its trigger T it makes, all durable:
//
//   - the exchange NAME, to which every event is published;
//   - for each shard I the quorum queue NAME.T.I, bound to the exchange. An event goes into the shard of its partition
//     key. One consumer at a time gets the messages of a queue (single active consumer), so the order of a key is kept,
//     also when messages come again;
//   - the queue NAME.T.parked for messages that are no CloudEvents, and for those that came again more often than the
//     delivery limit: they are moved there at least once. An operator finds them there; nothing reads it;
//   - for each shard the queue NAME.T.I.tries with one message: the attempts at events that have failed.
//
// Events are in the binary mode of the AMQP binding of CloudEvents: attributes are headers with the prefix
// "cloudEvents:", datacontenttype is the content type. Other programs may publish such messages to the exchange, and in
// the structured mode too. With one shard any routing key will do; with more it is the number of the shard.
//
// Publish returns when RabbitMQ has confirmed every message: each is then in all of its queues, on the disks of a
// majority of the nodes. A message that no queue takes is confirmed as well, but returned before; that is an error when
// this process has declared a trigger, which is then declared again.
//
// A message is held as long as the consumer's channel is open, also while its event waits for a retry. Messages of a
// process that died come again as soon as RabbitMQ sees its connection end.
package rabbitmq

import (
	"context"
	"log/slog"
	"time"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue"
)

// maxEvent is the size of the largest event in bytes.
const maxEvent = 1 << 20

// Capabilities returns what differs from other drivers.
func Capabilities() broker.Capabilities {
	return broker.Capabilities{
		Product: "RabbitMQ 3.10 or later, quorum queues; tested with one node of 3.10",
		Binding: "binary: `cloudEvents:` headers; structured is read too",
		Durable: "a power cut, and the loss of a minority of the nodes",
		Order:   "a queue per trigger and shard with a single active consumer",
		Sharing: "one process serves a shard, another takes over",
		Crash:   "when the connection ends; 20 s after a power cut",
		Filters: broker.ByDelivery, Retries: broker.ByDelivery, DeadLetters: broker.ByDelivery,
		MaxEvent: maxEvent,
	}
}

// Config configures a Broker.
type Config struct {
	URL      string // amqp://USER:PASSWORD@HOST:5672/VHOST, with the parameters of the client
	Name     string // of the exchange, and the beginning of the names of queues; "": ebb
	Shards   int    // queues per trigger, the same for all processes; 0: 1
	Prefetch int    // messages that a process holds of one shard; 0: 1000

	Observer broker.Observer // nil: none
	Logger   *slog.Logger    // nil: slog.Default
}

// Broker is a broker.Broker over RabbitMQ.
type Broker struct {
	*eventqueue.Broker
	driver *driver
}

var _ broker.Broker = (*Broker)(nil)

// Open connects to RabbitMQ and makes the exchange. Its errors are those of broker.Opener.
func Open(ctx context.Context, cfg Config) (*Broker, error) {
	d, err := openDriver(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &Broker{eventqueue.New(d, eventqueue.Options{
		Observer: cfg.Observer, Logger: cfg.Logger, MaxEvent: maxEvent,
	}), d}, nil
}

const (
	dialTimeout    = 5 * time.Second
	heartbeat      = 10 * time.Second
	confirmTimeout = 30 * time.Second // RabbitMQ confirms nothing while an alarm of its memory or disk lasts

	// deliveryLimit is how often a message may come again. It is far above what retries and restarts need, which are
	// counted by package delivery; without an explicit one RabbitMQ 4 has a limit of 20.
	deliveryLimit = 10_000

	// consumerTimeout is how long RabbitMQ 3.12 or later lets a message be held, in milliseconds; as long as the most
	// patient trigger.
	consumerTimeout = 31 * 24 * 60 * 60 * 1000
)
