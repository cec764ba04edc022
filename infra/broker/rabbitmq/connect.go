package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue"
	"github.com/ebb-dev/ebb/infra/fault"
)

// driver implements eventqueue.Driver. It publishes by one connection and consumes by another, because RabbitMQ stops
// reading from connections that publish while its memory or disk is short, and acknowledgements must come through then.
type driver struct {
	cfg       Config
	publisher publisher

	mu        sync.Mutex
	consuming *amqp.Connection // nil: not connected
	closed    bool
	declared  map[string]bool // triggers
	open      map[*queue]bool
}

var _ eventqueue.Driver = (*driver)(nil)

func openDriver(ctx context.Context, cfg Config) (*driver, error) {
	if cfg.Name == "" {
		cfg.Name = "ebb"
	}
	cfg.Shards = max(cfg.Shards, 1)
	if cfg.Prefetch == 0 {
		cfg.Prefetch = 1000
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	d := &driver{cfg: cfg, declared: make(map[string]bool), open: make(map[*queue]bool)}
	d.publisher.driver, d.publisher.lock = d, make(chan struct{}, 1)
	if err := d.onChannel(ctx, d.declareExchange); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// dial connects, and returns what is below the connection too. The error is one of broker.Opener's.
func (d *driver) dial(ctx context.Context) (conn *amqp.Connection, wire net.Conn, err error) {
	uri, err := amqp.ParseURI(d.cfg.URL)
	if err != nil {
		return nil, nil, fault.New(fault.Invalid, "the URL of RabbitMQ is not valid")
	}
	at := net.JoinHostPort(uri.Host, strconv.Itoa(uri.Port))
	conn, err = amqp.DialConfig(d.cfg.URL, amqp.Config{
		Heartbeat: heartbeat, Properties: amqp.Table{"connection_name": d.cfg.Name, "product": "ebb"},
		Dial: func(network, addr string) (net.Conn, error) {
			limited, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			c, err := new(net.Dialer).DialContext(limited, network, addr)
			if err != nil {
				return nil, err
			}
			wire = c
			return c, c.SetDeadline(time.Now().Add(dialTimeout)) // of the handshake; the client removes it
		},
	})
	var refused *amqp.Error
	switch {
	case err == nil:
		return conn, wire, nil
	case errors.Is(err, amqp.ErrCredentials), errors.Is(err, amqp.ErrSASL):
		return nil, nil, fault.Wrap(err, fault.Unauthenticated, "RabbitMQ at %s does not accept the user %q or its password",
			at, uri.Username)
	case errors.Is(err, amqp.ErrVhost), errors.As(err, &refused) && refused.Code == amqp.NotAllowed:
		return nil, nil, fault.Wrap(err, fault.Denied, "RabbitMQ at %s has no virtual host %q for the user %q",
			at, uri.Vhost, uri.Username)
	}
	return nil, nil, fault.Wrap(err, fault.Unavailable, "RabbitMQ at %s cannot be reached", at)
}

// connection returns the connection that consumes, and makes it when it does not exist or is closed.
func (d *driver) connection(ctx context.Context) (*amqp.Connection, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errClosed
	}
	if d.consuming != nil && !d.consuming.IsClosed() {
		return d.consuming, nil
	}
	conn, _, err := d.dial(ctx)
	if err != nil {
		return nil, err
	}
	d.consuming = conn
	return conn, nil
}

var errClosed = fault.New(fault.Unavailable, "the broker is closed")

// channel opens a channel on the connection that consumes.
func (d *driver) channel(ctx context.Context) (*amqp.Channel, error) {
	conn, err := d.connection(ctx)
	if err != nil {
		return nil, err
	}
	ch, err := conn.Channel()
	return ch, d.explain(err)
}

// onChannel calls do with a channel of its own.
func (d *driver) onChannel(ctx context.Context, do func(*amqp.Channel) error) error {
	ch, err := d.channel(ctx)
	if err != nil {
		return err
	}
	defer ch.Close()
	return d.explain(do(ch))
}

// explain returns an error of the server as one of broker.Opener's.
func (d *driver) explain(err error) error {
	var refused *amqp.Error
	var known *fault.Error
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case !errors.As(err, &refused):
		return fault.Wrap(err, fault.Unavailable, "RabbitMQ does not respond")
	case refused.Code == amqp.PreconditionFailed:
		reason := strings.TrimPrefix(refused.Reason, "PRECONDITION_FAILED - ")
		if strings.Contains(reason, "'alternate-exchange'") || strings.Contains(reason, "'type' for exchange") {
			reason = fmt.Sprintf("the exchange %q has another number of shards than %d; all processes need the same",
				d.cfg.Name, d.cfg.Shards)
		}
		return fault.Wrap(err, fault.Conflict, "RabbitMQ has it with other settings: %s", reason)
	case refused.Code == amqp.AccessRefused:
		return fault.Wrap(err, fault.Denied, "RabbitMQ denies it: %s",
			strings.TrimPrefix(refused.Reason, "ACCESS_REFUSED - "))
	}
	return fault.Wrap(err, fault.Unavailable, "RabbitMQ refuses it: %s", refused.Reason)
}

// declareExchange makes the exchange. RabbitMQ compares the type of an exchange that exists and its alternate exchange,
// which does not exist: its name tells the number of shards to processes that have another one.
func (d *driver) declareExchange(ch *amqp.Channel) error {
	kind, args := amqp.ExchangeFanout, amqp.Table(nil)
	if d.cfg.Shards > 1 {
		kind = amqp.ExchangeDirect
		args = amqp.Table{"alternate-exchange": fmt.Sprintf("%s.of-%d-shards", d.cfg.Name, d.cfg.Shards)}
	}
	return ch.ExchangeDeclare(d.cfg.Name, kind, true, false, false, false, args)
}

func (d *driver) queueName(trigger string, shard int) string {
	return fmt.Sprintf("%s.%s.%d", d.cfg.Name, trigger, shard)
}

func (d *driver) parkedName(trigger string) string { return d.cfg.Name + "." + trigger + ".parked" }

func triesName(queue string) string { return queue + ".tries" }

// Declare implements eventqueue.Driver.
func (d *driver) Declare(ctx context.Context, trigger string) error {
	err := d.onChannel(ctx, func(ch *amqp.Channel) error { return d.declare(ch, trigger) })
	if err == nil {
		d.mu.Lock()
		d.declared[trigger] = true
		d.mu.Unlock()
	}
	return err
}

func (d *driver) declare(ch *amqp.Channel, trigger string) error {
	if err := d.declareExchange(ch); err != nil {
		return err
	}
	quorum := func(name string, more amqp.Table) error {
		args := amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum}
		for k, v := range more {
			args[k] = v
		}
		_, err := ch.QueueDeclare(name, true, false, false, false, args)
		return err
	}
	if err := quorum(d.parkedName(trigger), nil); err != nil {
		return err
	}
	for shard := range d.cfg.Shards {
		name := d.queueName(trigger, shard)
		if err := quorum(triesName(name), amqp.Table{"x-max-length": 1}); err != nil {
			return err
		}
		if err := quorum(name, amqp.Table{
			amqp.SingleActiveConsumerArg: true, "x-delivery-limit": deliveryLimit, "x-consumer-timeout": consumerTimeout,
			"x-dead-letter-exchange": "", "x-dead-letter-routing-key": d.parkedName(trigger),
			"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish", // which at-least-once needs
		}); err != nil {
			return err
		}
		if err := ch.QueueBind(name, strconv.Itoa(shard), d.cfg.Name, false, nil); err != nil {
			return err
		}
	}
	return nil
}

// declareAgain makes the queues of all triggers that were declared, after a message went to none of them. Those that
// are being served are opened again: RabbitMQ does not tell a consumer when a queue is deleted and made again at once.
func (d *driver) declareAgain(ctx context.Context) error {
	d.mu.Lock()
	var triggers []string
	for t := range d.declared {
		triggers = append(triggers, t)
	}
	d.mu.Unlock()
	for _, t := range triggers {
		if err := d.Declare(ctx, t); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for q := range d.open {
		q.end(errMadeAgain)
	}
	return nil
}

var errMadeAgain = errors.New("the queue was made again")

// hasTriggers reports whether a trigger was declared by this process.
func (d *driver) hasTriggers() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.declared) > 0
}

// Drop implements eventqueue.Driver.
func (d *driver) Drop(ctx context.Context, trigger string) error {
	d.mu.Lock()
	delete(d.declared, trigger)
	d.mu.Unlock()
	return d.onChannel(ctx, func(ch *amqp.Channel) error {
		names := []string{d.parkedName(trigger)}
		for shard := range d.cfg.Shards {
			name := d.queueName(trigger, shard)
			names = append(names, name, triesName(name))
		}
		for _, name := range names {
			if _, err := ch.QueueDelete(name, false, false, false); err != nil {
				return err
			}
		}
		return nil
	})
}

// Close implements eventqueue.Driver.
func (d *driver) Close() error {
	d.mu.Lock()
	d.closed = true
	conn := d.consuming
	d.mu.Unlock()
	err := d.publisher.close()
	if conn != nil {
		if closeErr := conn.CloseDeadline(time.Now().Add(dialTimeout)); !errors.Is(closeErr, amqp.ErrClosed) {
			err = errors.Join(err, closeErr)
		}
	}
	return err
}
