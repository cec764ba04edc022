package rabbitmq

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strconv"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Opener returns the opener of a broker by its URL: amqp://USER:PASSWORD@HOST:5672/VHOST, or amqps://. Its parameters
// are name (ebb), shards (1) and prefetch (1000), see Config, and of the client cacertfile, certfile, keyfile and
// server_name_indication. The error of an invalid URL is a predicate without any part of the URL.
func Opener(text string) (broker.Opener, error) {
	cfg, err := parseURL(text)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, opts broker.Options) (broker.Broker, error) {
		cfg := cfg
		cfg.Observer, cfg.Logger = opts.Observer, opts.Logger
		if opts.Part != "" {
			cfg.Name += "-" + opts.Part
		}
		b, err := Open(ctx, cfg)
		if err != nil {
			return nil, err
		}
		return b, nil
	}, nil
}

// validName reports whether a broker may have the name. Every process links this package, so there is no regular
// expression to compile at its start.
func validName(name string) bool {
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
			return false
		}
	}
	return len(name) >= 1 && len(name) <= 100
}

func parseURL(text string) (Config, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return Config{}, invalid("is not a valid URL; escape special characters of the password with %%")
	case u.Hostname() == "":
		return Config{}, invalid("has no host; want amqp://USER@HOST:5672/VHOST")
	case u.Fragment != "":
		return Config{}, invalid("has a #; escape special characters of the password with %%")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Config{}, invalid("has invalid parameters")
	}
	cfg := Config{Name: "ebb"}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		value := query.Get(name)
		if len(query[name]) > 1 {
			return Config{}, invalid("has a parameter twice")
		}
		switch name {
		case "name":
			if cfg.Name = value; !validName(value) {
				return Config{}, invalid("has an invalid name: want letters, digits, - and _ only")
			}
		case "shards":
			if cfg.Shards, err = strconv.Atoi(value); err != nil || cfg.Shards < 1 || cfg.Shards > 64 {
				return Config{}, invalid("has invalid shards: want a number from 1 to 64")
			}
		case "prefetch":
			if cfg.Prefetch, err = strconv.Atoi(value); err != nil || cfg.Prefetch < 1 || cfg.Prefetch > 10_000 {
				return Config{}, invalid("has an invalid prefetch: want a number from 1 to 10000")
			}
		case "cacertfile", "certfile", "keyfile", "server_name_indication":
			continue
		default:
			return Config{}, invalid("has an unknown parameter (use name, shards, prefetch, cacertfile, certfile, keyfile " +
				"or server_name_indication)")
		}
		query.Del(name)
	}
	u.RawQuery = query.Encode()
	cfg.URL = u.String()
	if _, err := amqp.ParseURI(cfg.URL); err != nil {
		return Config{}, invalid("is not a valid AMQP URL; want amqp://USER@HOST:5672/VHOST")
	}
	return cfg, nil
}

func invalid(format string, args ...any) error { return fault.New(fault.Invalid, format, args...) }
