// Package nats implements the broker with NATS JetStream: an embedded server with its files in one directory, or an
// external cluster.
//
// Events published together, or while an append is in progress, become one message of one stream, so that they share
// one write and one fsync. A second stream stores the triggers as durably. A third holds their cursors, one small
// message each, which change all the time, and a fourth their attempts, which do not.
//
// With an embedded server these survive:
//
//   - A killed process: every event whose Publish returned, in any configuration. Cursors are at most some 50 ms old;
//     events that were finished after that are delivered again. So are attempts that were answered; those at an event
//     that may be what kills the process survive in any case.
//   - A power cut: without Config.SyncInterval every event whose Publish returned. With it every event up to the
//     durable offset (see broker.Flusher); publishers must store later ones themselves. Cursors may be older than
//     after a kill, and a cursor behind the end of the remaining log is set back to that end.
//
// With an external cluster durability depends on its configuration; the stream has Config.Replicas copies.
//
// Several processes may use one cluster. One of them at a time serves a trigger, with a lease that it renews. When that
// process dies, another takes over after Config.Lease. Around a takeover events may be delivered twice and out of
// order, as at-least-once allows.
package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/brokerurl"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventlog"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Config configures the broker. Exactly one of Dir and URL must be set.
type Config struct {
	Dir string // the directory of an embedded server; only one process at a time may use it
	URL string // the URL of an external cluster, as for nats.Connect

	Options []nats.Option // more options for the connection to an external cluster: credentials, TLS

	Stream   string // the name of the stream, which identifies the broker; "": "ebb"
	Replicas int    // the number of copies on an external cluster; 0: 1

	// SyncInterval is how often an embedded broker syncs its events to disk. 0: before each Publish returns. Otherwise
	// publishers must store their events until those are durable, as the outbox of a function does.
	SyncInterval time.Duration

	Lease time.Duration // how long a dead process holds its triggers on an external cluster; 0: 10 s

	// Retention is how long the log keeps events for a trigger that no process serves, such as that of a removed
	// function; 0: seven days, negative: for ever.
	Retention time.Duration

	MaxEvent int             // the largest event in bytes; 0: 1 MiB, or less if an external cluster allows less
	Observer broker.Observer // nil: none
	Logger   *slog.Logger    // nil: slog.Default
}

func (c *Config) validate() error {
	var problems []error
	if (c.Dir == "") == (c.URL == "") {
		problems = append(problems, errors.New("exactly one of Dir and URL must be set"))
	}
	if c.SyncInterval < 0 || c.Lease < 0 || c.MaxEvent < 0 || c.Replicas < 0 {
		problems = append(problems, errors.New("SyncInterval, Lease, MaxEvent and Replicas must not be negative"))
	}
	if c.MaxEvent > maxPayload/2 {
		problems = append(problems, fmt.Errorf("MaxEvent must be %d at most", maxPayload/2))
	}
	if c.Stream == "" {
		c.Stream = "ebb"
	}
	if !brokerurl.IsName(c.Stream) {
		problems = append(problems, fmt.Errorf("invalid stream name %q: want letters, digits, - and _ only", c.Stream))
	}
	c.Replicas = max(c.Replicas, 1)
	if c.Lease == 0 {
		c.Lease = 10 * time.Second
	}
	if c.MaxEvent == 0 {
		c.MaxEvent = 1 << 20
	}
	if err := errors.Join(problems...); err != nil {
		return fault.Wrap(err, fault.Invalid, "invalid configuration of the NATS broker")
	}
	return nil
}

// Broker implements broker.Broker with JetStream.
type Broker struct {
	*eventlog.Broker
	log *log
}

var _ broker.Broker = (*Broker)(nil)

// Open starts the embedded server or connects to the cluster, and makes the streams if they do not exist.
func Open(ctx context.Context, cfg Config) (*Broker, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	l := &log{cfg: cfg}
	if err := l.open(ctx); err != nil {
		l.Close()
		return nil, fault.Wrap(err, fault.Unavailable, "open the NATS broker")
	}
	limit := min(cfg.MaxEvent, int(l.nc.MaxPayload())-headroom)
	var driver eventlog.Log = l
	if cfg.URL != "" {
		driver = &shared{log: l}
	}
	core, err := eventlog.New(driver, eventlog.Options{
		Observer: cfg.Observer, Logger: cfg.Logger, MaxEvent: limit, FlushInterval: cfg.SyncInterval,
		Retention: cfg.Retention,
	})
	if err != nil {
		l.Close()
		return nil, err
	}
	return &Broker{core, l}, nil
}

// MaxPayload is the largest message of the embedded server in bytes.
const MaxPayload = 8 << 20

const (
	maxPayload = MaxPayload
	headroom   = 16 << 10 // bytes of a message besides its events
)

// open connects and makes the streams.
func (l *log) open(ctx context.Context) error {
	if err := l.connect(); err != nil {
		return err
	}
	var err error
	if l.js, err = jetstream.New(l.nc); err != nil {
		return err
	}
	if err := l.makeStreams(ctx); err != nil {
		return err
	}
	if l.server != nil && l.cfg.SyncInterval > 0 {
		return syncTree(l.cfg.Dir) // the streams' configuration, which the server would sync only with SyncAlways
	}
	return nil
}

func (l *log) connect() (err error) {
	if l.cfg.URL != "" {
		opts := append([]nats.Option{nats.Name("ebb"), nats.SyncQueueLen(queueLen), nats.MaxReconnects(-1)}, l.cfg.Options...)
		l.nc, err = nats.Connect(l.cfg.URL, opts...)
		return err
	}
	if start == nil {
		return fault.New(fault.Invalid, "this program contains no embedded NATS server; use nats://HOST:4222")
	}
	if l.server, err = start(l.cfg.Dir, l.cfg.SyncInterval == 0); err != nil { // with an interval the driver syncs
		return err
	}
	l.nc, err = nats.Connect("", nats.InProcessServer(l.server), nats.Name("ebb"), nats.SyncQueueLen(queueLen))
	return err
}

// queueLen limits the messages that wait for a reader; a read of the log asks for fewer. The client allocates this
// queue for each read, and its default would be half a megabyte.
const queueLen = 512

// Server is an embedded server, which only this process can reach.
type Server interface {
	nats.InProcessConnProvider
	Shutdown()
	WaitForShutdown()
}

// start starts the embedded server of a program that contains one.
var start func(dir string, syncAlways bool) (Server, error)

// Embed makes brokers with a directory possible, in a program that contains an embedded server: package embedded calls
// it when it is initialised, so that other programs do not link the server.
func Embed(f func(dir string, syncAlways bool) (Server, error)) { start = f }
