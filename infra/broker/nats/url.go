package nats

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Capabilities returns what differs from other drivers.
func Capabilities() broker.Capabilities {
	return broker.Capabilities{
		Product:  "NATS JetStream: embedded server, or a cluster of 2.9 or later",
		Binding:  "private",
		Durable:  "a power cut; on a cluster the loss of a minority of the replicas",
		Order:    "one log, read in order by one process",
		Sharing:  "one process serves a trigger, another takes over",
		Crash:    "after the lease, 10 s",
		Filters:  broker.ByDelivery,
		Retries:  broker.ByDelivery,
		MaxEvent: 1 << 20, DeadLetters: broker.ByDelivery, Deduplicates: 0, Keeps: true,
	}
}

// Opener returns the opener of a broker by its URL: nats:PATH is the embedded server with its data in a directory,
// nats://HOST:4222 a cluster. A cluster's URL may name further servers with commas, a user and a password, and has
// these parameters: name, that of the stream (ebb), and replicas (1). The error of an invalid URL is a predicate
// without any part of the URL.
func Opener(text string) (broker.Opener, error) {
	cfg, err := parseURL(text)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, opts broker.Options) (broker.Broker, error) {
		cfg := cfg
		cfg.Observer, cfg.Logger = opts.Observer, opts.Logger
		if opts.Part != "" && cfg.URL != "" {
			cfg.Stream += "-" + opts.Part
		} else if opts.Part != "" {
			cfg.Dir += "-" + opts.Part
		}
		b, err := Open(ctx, cfg)
		switch {
		case err == nil:
			return b, nil
		case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
			return nil, fault.Wrap(err, fault.Unauthenticated, "the NATS server does not accept the user or its password")
		case cfg.URL != "" && errors.Is(err, nats.ErrNoServers):
			return nil, fault.Wrap(err, fault.Unavailable, "no NATS server can be reached")
		}
		return nil, err
	}, nil
}

func parseURL(text string) (Config, error) {
	path := strings.TrimPrefix(text, "nats:")
	if !strings.HasPrefix(path, "//") {
		switch {
		case path == "":
			return Config{}, invalid("has no path; want nats:PATH or nats://HOST:4222")
		case strings.ContainsAny(path, "?#@\x00"):
			return Config{}, invalid("has a ?, # or @ in its path; want nats:PATH or nats://HOST:4222")
		}
		return Config{Dir: path, SyncInterval: 0}, nil
	}
	text, query, _ := strings.Cut(text, "?")
	cfg := Config{Stream: "ebb"}
	for server := range strings.SplitSeq(strings.TrimPrefix(text, "nats://"), ",") {
		u, err := url.Parse("nats://" + server)
		switch {
		case err != nil:
			return Config{}, invalid("is not a valid URL; escape special characters of the password with %%")
		case u.Hostname() == "":
			return Config{}, invalid("has no host; want nats://HOST:4222")
		case u.Path != "" || u.Fragment != "":
			return Config{}, invalid("has text after its host; want nats://HOST:4222?name=ebb")
		}
	}
	cfg.URL = text
	values, err := url.ParseQuery(query)
	if err != nil {
		return Config{}, invalid("has invalid parameters")
	}
	for name, all := range values {
		if len(all) > 1 {
			return Config{}, invalid("has a parameter twice")
		}
		switch name {
		case "name":
			if cfg.Stream = all[0]; !streamName(all[0]) {
				return Config{}, invalid("has an invalid name: want letters, digits, - and _ only")
			}
		case "replicas":
			if cfg.Replicas, err = strconv.Atoi(all[0]); err != nil || cfg.Replicas < 1 || cfg.Replicas > 5 {
				return Config{}, invalid("has invalid replicas: want a number from 1 to 5")
			}
		default:
			return Config{}, invalid("has an unknown parameter (use name or replicas)")
		}
	}
	return cfg, nil
}

func invalid(format string, args ...any) error { return fault.New(fault.Invalid, format, args...) }
