// Package memqueue is the broker over queues with acknowledgements, in the memory of one process: for tests, and as the
// pattern for drivers of RabbitMQ, SQS and Redis Streams. It behaves as SQS FIFO does: a message that is received is
// held for a visibility timeout, and while a message of a partition key is held, no receiver gets another one of that
// key.
//
// A process that is killed loses everything. A Broker that is given up without Close loses nothing: what it held comes
// to the next Broker over the same Queues when its visibility has run out.
package memqueue

import (
	"log/slog"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue"
)

// Config configures a Broker. The zero value has the defaults.
type Config struct {
	MaxEvent int             // the largest event in bytes; 0: 1 MiB
	Observer broker.Observer // nil: none
	Logger   *slog.Logger    // nil: slog.Default
}

// Broker is a broker.Broker over Queues.
type Broker struct{ *eventqueue.Broker }

var _ broker.Broker = (*Broker)(nil)

// New makes a broker over queues of its own.
func New(cfg Config) *Broker { return Open(NewQueues(0), cfg) }

// Open makes a broker over queues that other brokers may have used before, or use at the same time.
func Open(q *Queues, cfg Config) *Broker {
	return &Broker{eventqueue.New(q, eventqueue.Options{
		Observer: cfg.Observer, Logger: cfg.Logger, MaxEvent: cfg.MaxEvent,
	})}
}
