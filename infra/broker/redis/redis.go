// Package redis implements the broker with a stream in Redis 7.0 or later.
//
// The stream is read as a log. Events published together, or while an append is in progress, become one entry. A
// process reads each entry once for all of its triggers, and a trigger saves what it has finished as a cursor in a
// hash, with the events before it that it has not. So there are no consumer groups and no lists of pending entries:
// no trigger can lose an entry that was trimmed while it was pending, and nothing is claimed by an idle time that
// could be shorter than a handler. The stream is trimmed behind the slowest trigger.
//
// Several processes may use one server. One of them at a time serves a trigger, with a lease that it renews while its
// handlers run, however long they take. When that process dies, another takes over after Config.Lease. Around a
// takeover events may be delivered twice and out of order, as at-least-once allows.
//
// Pub/Sub only tells other processes that the stream has grown. After a lost notification they poll.
//
// What a Publish that has returned survives is the server's setting:
//
//   - appendonly yes, appendfsync always: a killed server and a power cut.
//   - appendonly yes, appendfsync everysec: neither for sure. A power cut costs what was published in the last second,
//     or two when the disk is slow; a killed server what it had not yet written because an fsync was under way.
//   - appendonly no: nothing. Open logs a warning.
//
// A replica that takes over may miss what its primary had acknowledged. A server that comes back without its last
// entries gives the next ones positions after those that were lost, so that no process passes over them.
package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/brokerurl"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventlog"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Config configures the broker. URL must be set.
type Config struct {
	URL string // redis://[USER:PASSWORD@]HOST:PORT[/DB], rediss://… with TLS, or unix://PATH

	Name  string        // the prefix of the keys, which identifies the broker; "": "ebb"
	Lease time.Duration // how long a dead process holds its triggers; 0: 10 s

	// Retention is how long the stream keeps events for a trigger that no process serves, such as that of a removed
	// function; 0: seven days, negative: for ever.
	Retention time.Duration

	MaxEvent int             // the largest event in bytes; 0: 1 MiB
	Observer broker.Observer // nil: none
	Logger   *slog.Logger    // nil: slog.Default
}

// mostEvent is the largest MaxEvent: what a read of several entries may have to hold many times.
const mostEvent = 8 << 20

// options sets defaults and returns the client's options. No error has the password.
func (c *Config) options() (*redis.Options, error) {
	var problems []error
	options, err := redis.ParseURL(c.URL)
	if err != nil {
		problems = append(problems, errors.New("invalid URL: want redis://[USER:PASSWORD@]HOST:PORT[/DB], rediss://… or "+
			"unix://PATH"))
	}
	if c.Name == "" {
		c.Name = "ebb"
	}
	if !brokerurl.IsName(c.Name) {
		problems = append(problems, fmt.Errorf("invalid name %q: want letters, digits, - and _ only", c.Name))
	}
	if c.Lease < 0 || c.MaxEvent < 0 || c.MaxEvent > mostEvent {
		problems = append(problems, fmt.Errorf("the lease must not be negative, nor the largest event over %d bytes",
			mostEvent))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if c.Lease == 0 {
		c.Lease = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	// A request that was sent twice would append twice. What may be repeated, package eventlog repeats.
	options.MaxRetries, options.DialerRetries = -1, 1
	options.ContextTimeoutEnabled = true
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = dialTimeout, requestTimeout, requestTimeout
	return options, nil
}

const (
	dialTimeout    = 5 * time.Second
	requestTimeout = 20 * time.Second // longer than a slow fsync of the server
)

// Broker implements broker.Broker with a stream of Redis.
type Broker struct {
	*eventlog.Broker
	log *log
}

var _ broker.Broker = (*Broker)(nil)

// Open connects to the server, and refuses one whose settings would evict events. An error is fault.Invalid,
// fault.Unauthenticated, fault.Denied, fault.Conflict or fault.Unavailable.
func Open(ctx context.Context, cfg Config) (*Broker, error) {
	options, err := cfg.options()
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "invalid configuration of the Redis broker")
	}
	l := newLog(cfg, redis.NewClient(options))
	if err := l.check(ctx); err != nil {
		l.Close()
		return nil, err
	}
	core, err := eventlog.New(l, eventlog.Options{
		Observer: cfg.Observer, Logger: cfg.Logger, MaxEvent: cfg.MaxEvent, Retention: cfg.Retention,
	})
	if err != nil {
		l.Close()
		return nil, err
	}
	return &Broker{core, l}, nil
}

// check connects, and looks at the settings of the server that decide whether it keeps what it has taken.
func (l *log) check(ctx context.Context) error {
	if err := l.client.Ping(ctx).Err(); err != nil {
		return refusal(err)
	}
	settings := map[string]string{}
	for _, name := range []string{"appendonly", "maxmemory-policy"} {
		found, err := l.client.ConfigGet(ctx, name).Result()
		if err != nil {
			return nil // hosted servers do not tell
		}
		settings[name] = found[name]
	}
	if policy := settings["maxmemory-policy"]; strings.HasPrefix(policy, "allkeys-") {
		return fault.New(fault.Conflict, "the Redis server would evict events when its memory is full: its maxmemory-policy "+
			"is %s, set noeviction", policy)
	}
	if settings["appendonly"] == "no" {
		l.cfg.Logger.Warn("the Redis server keeps events in memory only and loses them when it dies; set appendonly yes")
	}
	return nil
}
