package broker

import (
	"context"
	"log/slog"
	"time"
)

// Opener opens a broker that a URL names; see package open. It returns fault.Unavailable when the broker cannot be
// reached, and may be called again then, fault.Unauthenticated when it refuses the credentials, fault.Denied when they
// do not allow what is needed, and fault.Conflict when what exists there has other settings. The message is one
// sentence without any password.
type Opener func(ctx context.Context, opts Options) (Broker, error)

// Options are what the process adds to a URL. The zero value has the defaults.
type Options struct {
	// Part names a broker of its own beside the one of the URL, with its own events and triggers: the driver appends it
	// with a "-" to the name of the exchange, topic or stream. Dead letters travel in the part "dead"; "": the events.
	Part string

	Observer Observer     // nil: none
	Logger   *slog.Logger // nil: slog.Default
}

// Declarer is a Broker that makes triggers durable without serving them. A process that publishes events for triggers
// of other processes declares them first: events from before a trigger exists never reach it.
type Declarer interface {
	// Declare makes the triggers durable under their names; one that is durable already is left alone.
	Declare(ctx context.Context, triggers ...string) error
}

// DeadLetters is the Part in which dead letters travel between processes.
const DeadLetters = "dead"

// Worker says who does a part of the delivery.
type Worker string

// The workers.
const (
	ByBroker   Worker = "broker"   // the product does it
	ByDelivery Worker = "delivery" // the process that serves the trigger does it, the same with every product
)

// Capabilities declare what differs from driver to driver. docs/brokers.md prints them. What the port promises, every
// driver keeps: see Broker and package brokertest.
type Capabilities struct {
	Product string // the product, and with what the driver is tested
	Binding string // how an event looks to other programs, such as "binary, application properties"

	Durable string // what an event survives whose Publish has returned
	Order   string // what keeps the order of a partition key
	Sharing string // how the processes that serve one trigger share its events
	Crash   string // when the events come again that a process held which died

	Filters     Worker // who applies the filters
	Retries     Worker // who waits for the next attempt
	DeadLetters Worker // who hands what failed to the dead-letter sink

	MaxEvent int  // the largest event in bytes
	Keeps    bool // events stay after they were handled, at least for a while

	// Deduplicates is the time within which events of one source and id that are published twice are handed out once; 0:
	// they are handed out twice.
	Deduplicates time.Duration
}
