// Package nats is the broker over NATS JetStream: a server inside the process with its files in
// one directory, or an outside cluster.
//
// What is published together, or while an append is under way, becomes one message of one stream,
// so that one write, and one fsync, serves all of it. That a trigger exists is written as durably, in
// a second stream; its cursor, which moves all the time, is one small message in a third.
//
// What survives, of an embedded server:
//
//   - A killed process: every event whose Publish returned, whatever the configuration. Cursors are
//     at most some 50 ms old; what was finished since then comes again.
//   - A power cut: every event whose Publish returned; if Config.SyncInterval is set, every event up to the
//     durable offset (see broker.Flusher), and the others their publishers have kept. Cursors may be older than after a
//     kill, and a cursor behind the end of what is left is set back to it.
//
// Of an outside cluster, what its operators promise; the stream has Config.Replicas copies.
//
// Several processes may use one cluster. Each trigger is served by one of them at a time, by a
// lease that it renews; when it dies another takes over after Config.Lease. Around a change of
// hands events may come twice, and the order of a key may overlap, as at-least-once allows.
package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventlog"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Config says where the broker is. Exactly one of Dir and URL is set.
type Config struct {
	Dir string // a server in this process keeps its files here; only one process at a time may use it
	URL string // an outside cluster, as nats.Connect takes it

	Options []nats.Option // further options for the connection to an outside cluster: credentials, TLS

	Stream   string // names the stream, and so the broker; "": "ebb"
	Replicas int    // of an outside stream; 0: 1

	// SyncInterval is how often an embedded broker syncs its events to disk. 0: before each Publish
	// returns. Otherwise publishers must keep what they have published until it is durable; the outbox of
	// a function does.
	SyncInterval time.Duration

	Lease time.Duration // how long a dead process keeps its triggers, on an outside cluster; 0: 10 s

	MaxEvent int             // the largest event in bytes; 0: 1 MiB, or what an outside cluster takes
	Observer broker.Observer // nil: none
	Logger   *slog.Logger    // nil: slog.Default
}

func (c *Config) validate() error {
	var faults []error
	if (c.Dir == "") == (c.URL == "") {
		faults = append(faults, errors.New("exactly one of Dir and URL must be set"))
	}
	if c.SyncInterval < 0 || c.Lease < 0 || c.MaxEvent < 0 || c.Replicas < 0 {
		faults = append(faults, errors.New("SyncInterval, Lease, MaxEvent and Replicas must not be negative"))
	}
	if c.MaxEvent > maxPayload/2 {
		faults = append(faults, fmt.Errorf("MaxEvent must be %d at most", maxPayload/2))
	}
	if c.Stream == "" {
		c.Stream = "ebb"
	}
	if !streamName(c.Stream) {
		faults = append(faults, fmt.Errorf("invalid stream name %q: want letters, digits, - and _ only", c.Stream))
	}
	c.Replicas = max(c.Replicas, 1)
	if c.Lease == 0 {
		c.Lease = 10 * time.Second
	}
	if c.MaxEvent == 0 {
		c.MaxEvent = 1 << 20
	}
	if err := errors.Join(faults...); err != nil {
		return fault.Wrap(err, fault.Invalid, "invalid configuration of the NATS broker")
	}
	return nil
}

func streamName(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
			return false
		}
	}
	return s != ""
}

// Broker is a broker.Broker over JetStream.
type Broker struct{ *eventlog.Broker }

var _ broker.Broker = (*Broker)(nil)

// Open starts or finds the server, and makes the streams if they are not there.
func Open(ctx context.Context, cfg Config) (*Broker, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	l := &log{cfg: cfg, recent: newRecent()}
	if err := l.open(ctx); err != nil {
		l.Close()
		return nil, fault.Wrap(err, fault.Unavailable, "the NATS broker cannot be opened")
	}
	limit := min(cfg.MaxEvent, int(l.nc.MaxPayload())-headroom)
	var driver eventlog.Log = l
	if cfg.URL != "" {
		driver = &shared{log: l}
	}
	core, err := eventlog.New(driver, eventlog.Options{
		Observer: cfg.Observer, Logger: cfg.Logger, MaxEvent: limit, FlushInterval: cfg.SyncInterval,
	})
	if err != nil {
		l.Close()
		return nil, err
	}
	return &Broker{core}, nil
}

const (
	maxPayload = 8 << 20  // of the embedded server
	headroom   = 16 << 10 // what a message needs besides its events
)

// open connects, and makes the streams.
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
		return syncTree(l.cfg.Dir) // what the streams are; the server syncs that only when it syncs everything
	}
	return nil
}

func (l *log) connect() (err error) {
	if l.cfg.URL != "" {
		opts := append([]nats.Option{nats.Name("ebb"), nats.SyncQueueLen(answers), nats.MaxReconnects(-1)}, l.cfg.Options...)
		l.nc, err = nats.Connect(l.cfg.URL, opts...)
		return err
	}
	if l.server, err = startServer(l.cfg); err != nil {
		return err
	}
	l.nc, err = nats.Connect("", nats.InProcessServer(l.server), nats.Name("ebb"), nats.SyncQueueLen(answers))
	return err
}

// answers is how many messages may wait for the one that has asked for them; a read of the log asks for fewer. Room
// for them is made at each read, and by default it would be half a megabyte.
const answers = 512

// startServer starts a server that only this process can reach.
func startServer(cfg Config) (*server.Server, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	opts := &server.Options{
		ServerName: "ebb", DontListen: true, JetStream: true, StoreDir: cfg.Dir,
		NoSigs: true, NoLog: true, MaxPayload: maxPayload, MaxPending: 64 << 20,
		JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 1 << 50,
		SyncAlways: cfg.SyncInterval == 0, SyncInterval: time.Minute, // else the driver syncs, which knows when it has
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, err
	}
	s.Start()
	if !s.ReadyForConnections(10*time.Second) || !s.JetStreamEnabled() {
		s.Shutdown()
		return nil, fmt.Errorf("the embedded NATS server does not start in %s", cfg.Dir)
	}
	return s, nil
}
