// Package pubsub is the broker over Google Cloud Pub/Sub: a topic to which every event is published, and for each
// trigger a subscription that is pulled from.
//
// For the broker NAME and its trigger T it makes in the project, unless they exist:
//
//   - the topic NAME;
//   - the subscription NAME-T, with message ordering, which never expires and holds a message for 31 days;
//   - the topic and the subscription NAME-T-dlq. Pub/Sub moves a message there that was handed out 100 times without
//     being acknowledged, if its service agent may, and this package one that is no CloudEvent. Nothing reads it; an
//     operator looks there.
//
// A subscription that exists may have other settings, but not such that break what the broker promises.
//
// A message is an event in the structured mode of the CloudEvents binding; the binary mode is read too. Its ordering
// key is the partition key. Pub/Sub hands out no further message of a key to another receiver while one is held, so all
// processes that serve a trigger share its events, and the order of each key is kept, as long as the events of a key
// are published in one region. A message is held by extending its deadline, also while its event waits for a retry.
// What a process held that died comes again after the visibility.
//
// Pub/Sub cannot change a message. The attempts at an event that has failed are stored in the store of blobs. Without
// one they are counted anew after a restart, and an event that kills its process each time is moved by Pub/Sub.
package pubsub

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/api/option"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue"
)

// maxEvent is the most bytes of data and attributes of an event. Pub/Sub takes ten times as much.
const maxEvent = 1 << 20

// Capabilities returns what differs from other drivers.
func Capabilities() broker.Capabilities {
	return broker.Capabilities{
		Product: "Google Cloud Pub/Sub; tested with Google's fake server in the process only",
		Binding: "structured JSON; binary is read too",
		Durable: "the loss of a zone",
		Order:   "an ordering key of Pub/Sub, of what one region publishes",
		Sharing: "each serves some of the keys",
		Crash:   "after the visibility, 30 s",
		Filters: broker.ByDelivery, Retries: broker.ByDelivery, DeadLetters: broker.ByDelivery,
		MaxEvent: maxEvent,
	}
}

// Config configures a Broker.
type Config struct {
	Project string // of Google Cloud; must be set
	Name    string // the topic's, and the beginning of the names of subscriptions; "": ebb

	// Visibility is the deadline of a message that is not extended, in whole seconds, from 10 to 600; 0: 30 s.
	Visibility time.Duration

	// Retention is how long a subscription holds a message that nothing takes; 0: 31 days, the most that Pub/Sub knows.
	Retention time.Duration

	// Poll is how long after a request for messages the next one comes; then no request waits. It is for emulators, which
	// do not end the wait of a request when a key is free again. 0: requests wait.
	Poll time.Duration

	Blobs    *blob.Store     // for the attempts at events; nil: none
	Observer broker.Observer // nil: none
	Logger   *slog.Logger    // nil: slog.Default

	// Options of the clients. Without any they use the credentials of the environment, and with PUBSUB_EMULATOR_HOST an
	// emulator.
	Options []option.ClientOption
}

// Broker is a broker.Broker over Pub/Sub.
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
		Observer: cfg.Observer, Logger: cfg.Logger, MaxEvent: maxEvent,
	}), d}, nil
}
