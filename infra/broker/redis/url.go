package redis

import (
	"context"
	"net/url"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/brokerurl"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Capabilities returns what differs from other drivers.
func Capabilities() broker.Capabilities {
	return broker.Capabilities{
		Product:  "Redis 7.0 or later, a stream",
		Binding:  "private",
		Durable:  "with `appendfsync always` a power cut; with `everysec` a kill or a power cut may cost up to two seconds",
		Order:    "one log, read in order by one process",
		Sharing:  "one process serves a trigger, another takes over",
		Crash:    "after the lease, 10 s",
		Filters:  broker.ByDelivery,
		Retries:  broker.ByDelivery,
		MaxEvent: 1 << 20, DeadLetters: broker.ByDelivery, Deduplicates: 0, Keeps: true,
	}
}

// Opener returns the opener of a broker by its URL: redis://[USER:PASSWORD@]HOST:PORT[/DB], rediss:// with TLS, or
// redis+unix:PATH for a socket. It has the parameter name, the prefix of the keys (ebb). The error of an invalid URL is
// a predicate without any part of the URL.
func Opener(text string) (broker.Opener, error) {
	cfg, err := parseURL(text)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, opts broker.Options) (broker.Broker, error) {
		cfg := cfg
		cfg.Observer, cfg.Logger = opts.Observer, opts.Logger
		cfg.Name = brokerurl.OfPart(cfg.Name, opts.Part)
		return brokerurl.Opened(Open(ctx, cfg))
	}, nil
}

// refusal returns the fault of a server that cannot be used.
func refusal(err error) error {
	switch {
	case redis.HasErrorPrefix(err, "WRONGPASS"), redis.HasErrorPrefix(err, "NOAUTH"):
		return fault.Wrap(err, fault.Unauthenticated, "the Redis server does not accept the user or its password")
	case redis.HasErrorPrefix(err, "NOPERM"):
		return fault.Wrap(err, fault.Denied, "the Redis server does not allow the user what the broker needs")
	}
	return fault.Wrap(err, fault.Unavailable, "the Redis server does not answer")
}

func parseURL(text string) (Config, error) {
	text, query, _ := strings.Cut(text, "?")
	cfg := Config{URL: text, Name: "ebb"}
	if path, isSocket := strings.CutPrefix(text, "redis+unix:"); isSocket {
		if path == "" || strings.ContainsAny(path, "#@\x00%") {
			return Config{}, brokerurl.Invalid("has no path, or a #, @ or %% in it; want redis+unix:PATH")
		}
		cfg.URL = "unix://" + path
	} else {
		u, err := url.Parse(text)
		switch {
		case err != nil:
			return Config{}, brokerurl.NotValid()
		case u.Hostname() == "":
			return Config{}, brokerurl.Invalid("has no host; want redis://HOST:6379")
		}
		if _, err := redis.ParseURL(text); err != nil {
			return Config{}, brokerurl.Invalid(
				"has text after its host that is no number of a database; want redis://HOST:6379/0")
		}
	}
	err := brokerurl.Parameters(query, func(name, value string) error {
		switch {
		case name != "name":
			return brokerurl.Invalid("has an unknown parameter (use name)")
		case !brokerurl.IsName(value):
			return brokerurl.InvalidName()
		}
		cfg.Name = value
		return nil
	})
	return cfg, err
}
