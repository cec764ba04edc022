// Package kafka implements the broker with a topic of Apache Kafka 2.4 or later.
//
// Events are written in the CloudEvents binding for Kafka, one record each, in binary mode. Other producers may write
// to the same topic, or to Config.Topics, in binary or structured mode: whatever is an event comes to the triggers
// whose filters it passes. A record with the value null is a tombstone of a compacted topic and no event. A record
// that is no event, or is too large, is copied to the topic NAME-invalid, with headers that say why, and passed over.
//
// The key of a record is the event's partitionkey, so that the events of a key lie in one partition, in order. The
// producer is idempotent. Publish returns when all replicas that are in sync have the events.
//
// Each trigger is a consumer group, NAME.TRIGGER. Several processes that serve it share the partitions. The committed
// offset is the first event that has not finished; the metadata of the commit has the others that have not, and their
// attempts. So a key that waits for its retry holds up no other key of its partition, and what was handled after it
// does not come again. Where the metadata would become longer than Kafka allows, which takes about two thousand
// unfinished events in a partition, the last ones come again after a restart; the inbox of a function knows them.
//
// When partitions move, a process first waits for its handlers, commits, and gives its partitions up. When it dies,
// the others get them after Config.Lease. A trigger that was known before goes on at its commits, never at the newest
// record; a partition that was added since is read from its beginning.
//
// Kafka itself decides how long events and commits are stored: the retention of the topic must be longer than any
// trigger waits, and offsets.retention.minutes longer than any trigger is not served.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/lifetime"
)

// Broker implements broker.Broker with a topic of Kafka.
type Broker struct {
	cfg      Config
	limit    int // the largest event in bytes
	client   *kgo.Client
	triggers *delivery.Registry
	decoded  *decodedEvents
	invalid  invalidRecords
	lifetime *lifetime.Lifetime // all requests of all clients end with it

	publishing sync.RWMutex // held by each Publish while it uses the client
	closed     bool         // guarded by publishing

	mu       sync.Mutex
	sessions map[string]*session // the triggers that this process serves
}

var (
	_ broker.Broker   = (*Broker)(nil)
	_ broker.Limiter  = (*Broker)(nil)
	_ broker.Declarer = (*Broker)(nil)
	_ delivery.Source = (*source)(nil)
)

// openTimeout limits how long Open waits for the cluster.
const openTimeout = 10 * time.Second

// Open connects to the cluster and makes the topics that are missing. An error is fault.Invalid, fault.Unauthenticated,
// fault.Denied or fault.Unavailable.
func Open(ctx context.Context, cfg Config) (*Broker, error) {
	if err := cfg.validate(); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "invalid configuration of the Kafka broker")
	}
	b := &Broker{cfg: cfg, limit: cfg.MaxEvent, decoded: newDecodedEvents(), lifetime: lifetime.New(),
		sessions: make(map[string]*session)}
	client, err := kgo.NewClient(append(b.options(),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		kgo.ProducerLinger(0), // what arrives while a request is under way shares the next one
		kgo.ProducerBatchMaxBytes(batchBytes),
		kgo.ProducerBatchCompression(codecs[cfg.Compression]()),
		kgo.RecordDeliveryTimeout(deliveryTimeout),
	)...)
	if err != nil {
		b.lifetime.End()
		return nil, fault.Wrap(err, fault.Invalid, "invalid configuration of the Kafka broker")
	}
	b.client = client
	b.triggers = delivery.NewRegistry((*source)(b), delivery.Options{
		Observer: cfg.Observer, Logger: cfg.Logger, Publish: b.Publish,
	})
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err = client.Ping(ctx); err == nil { // unlike other requests it is not repeated
		err = b.makeTopics(ctx)
	}
	if err != nil {
		b.lifetime.End()
		client.Close()
		if !fault.Is(err, fault.Invalid) {
			err = refusal(err)
		}
		return nil, err
	}
	return b, nil
}

const (
	// batchBytes limits a batch of records; it is less than what Kafka takes by default, message.max.bytes.
	batchBytes = 1_000_000

	// deliveryTimeout limits how long an event waits for a cluster that is away.
	deliveryTimeout = 30 * time.Second
)

// options returns what all clients of the broker have in common.
func (b *Broker) options() []kgo.Opt {
	return append(b.cfg.connection(),
		kgo.WithContext(b.lifetime.Context()),
		kgo.ClientID("ebb"),
		kgo.DisableClientMetrics(),
		kgo.WithLogger(logger{b.cfg.Logger}),
		kgo.MetadataMaxAge(b.cfg.metadataAge),
		kgo.MetadataMinAge(min(b.cfg.metadataAge, time.Second)),
	)
}

// logger hands the client's warnings to a slog.Logger.
type logger struct{ log *slog.Logger }

// Level implements kgo.Logger.
func (logger) Level() kgo.LogLevel { return kgo.LogLevelWarn }

// Log implements kgo.Logger.
func (l logger) Log(level kgo.LogLevel, message string, pairs ...any) {
	if level <= kgo.LogLevelWarn {
		l.log.Warn("the Kafka client: "+message, pairs...)
	}
}

// MaxEvent implements broker.Limiter.
func (b *Broker) MaxEvent() int { return b.limit }

// Publish implements broker.Publisher.
func (b *Broker) Publish(ctx context.Context, events ...event.Event) error {
	if len(events) == 0 {
		return nil
	}
	records := make([]*kgo.Record, len(events))
	for i := range events {
		e, _, err := delivery.CheckEvent(events[i], b.limit)
		if err != nil {
			return err
		}
		if records[i], err = encode(&e); err != nil {
			return err
		}
		records[i].Topic = b.cfg.Name
	}
	b.publishing.RLock()
	defer b.publishing.RUnlock()
	if b.closed {
		return delivery.ErrClosed
	}
	if err := b.produce(ctx, records); err != nil {
		return err
	}
	if o := b.cfg.Observer; o != nil {
		o.Published(len(records))
	}
	return nil
}

// produce writes the records and waits until all of them are durable, or ctx ends.
func (b *Broker) produce(ctx context.Context, records []*kgo.Record) error {
	done := make(chan error, len(records))
	for _, r := range records {
		b.client.Produce(ctx, r, func(_ *kgo.Record, err error) { done <- err })
	}
	var failed error
	for range records {
		select {
		case err := <-done:
			failed = errors.Join(failed, err)
		case <-ctx.Done():
			return fault.Wrap(ctx.Err(), fault.KindOf(ctx.Err()), "publishing was given up; the events may have been taken")
		}
	}
	if errors.Is(failed, kerr.UnknownTopicID) { // the topic was made anew, which the client does not accept by itself
		b.client.PurgeTopicsFromProducing(b.cfg.Name)
	}
	switch {
	case errors.Is(failed, kerr.MessageTooLarge):
		return fault.Wrap(failed, fault.Invalid, "an event is larger than the cluster takes, max.message.bytes of the topic")
	case failed != nil:
		return fault.Wrap(failed, fault.Unavailable, "the broker does not take events just now; they may have been taken")
	}
	return nil
}

// Subscribe implements broker.Broker.
func (b *Broker) Subscribe(ctx context.Context, t broker.Trigger, h broker.Handler) (broker.Subscription, error) {
	return b.triggers.Subscribe(ctx, t, h)
}

// Declare implements broker.Declarer.
func (b *Broker) Declare(ctx context.Context, triggers ...string) error {
	return b.triggers.Declare(ctx, triggers...)
}

// Forget drops a trigger for good, with its commits. For a trigger that this process serves it returns fault.Conflict.
func (b *Broker) Forget(ctx context.Context, trigger string) error {
	return b.triggers.Forget(trigger, func() error { return b.deleteGroup(ctx, trigger) })
}

// Stats returns the counts of the triggers that this process serves, in no order. Open and Lag are of the partitions
// that this process has.
func (b *Broker) Stats() []broker.Stats {
	out := b.triggers.Stats()
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range out {
		if s := b.sessions[out[i].Trigger]; s != nil {
			s.stats(&out[i])
		}
	}
	return out
}

// Close implements broker.Broker. Handlers that run may still publish; when ctx ends before they return, their contexts
// are cancelled and what they were handed comes again.
func (b *Broker) Close(ctx context.Context) error {
	return b.triggers.Close(ctx, func() error {
		b.publishing.Lock()
		b.closed = true
		b.publishing.Unlock()
		b.lifetime.End()
		b.client.Close()
		return nil
	})
}

// group returns the name of a trigger's consumer group.
func (b *Broker) group(trigger string) string { return b.cfg.Name + "." + trigger }

// topics returns the topics that triggers read.
func (b *Broker) topics() []string { return append([]string{b.cfg.Name}, b.cfg.Topics...) }

// invalidTopic returns the topic for records that are no events.
func (b *Broker) invalidTopic() string { return b.cfg.Name + "-invalid" }

// isTopic reports whether Kafka takes the name for a topic.
func isTopic(name string) bool {
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.' {
			return false
		}
	}
	return name != "" && len(name) <= 200 && name != "." && name != ".."
}

// checkTopics returns what is wrong with the names of topics.
func (c *Config) checkTopics() (problems []error) {
	for i, name := range append([]string{c.Name}, c.Topics...) {
		if !isTopic(name) {
			problems = append(problems, fmt.Errorf("invalid topic %q: want up to 200 letters, digits, ., - and _", name))
		}
		if i > 0 && (name == c.Name || name == c.Name+"-invalid" || slices.Contains(c.Topics[:i-1], name)) {
			problems = append(problems, fmt.Errorf("topic %q is there twice", name))
		}
	}
	return problems
}
