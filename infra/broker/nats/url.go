package nats

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/brokerurl"
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
		if cfg.URL != "" {
			cfg.Stream = brokerurl.OfPart(cfg.Stream, opts.Part)
		} else {
			cfg.Dir = brokerurl.OfPart(cfg.Dir, opts.Part)
		}
		b, err := Open(ctx, cfg)
		switch {
		case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
			err = fault.Wrap(err, fault.Unauthenticated, "the NATS server does not accept the user or its password")
		case cfg.URL != "" && errors.Is(err, nats.ErrNoServers):
			err = fault.Wrap(err, fault.Unavailable, "no NATS server can be reached")
		}
		return brokerurl.Opened(b, err)
	}, nil
}

func parseURL(text string) (Config, error) {
	path := strings.TrimPrefix(text, "nats:")
	if !strings.HasPrefix(path, "//") {
		switch {
		case path == "":
			return Config{}, brokerurl.Invalid("has no path; want nats:PATH or nats://HOST:4222")
		case strings.ContainsAny(path, "?#@\x00"):
			return Config{}, brokerurl.Invalid("has a ?, # or @ in its path; want nats:PATH or nats://HOST:4222")
		}
		return Config{Dir: path, SyncInterval: 0}, nil
	}
	text, query, _ := strings.Cut(text, "?")
	cfg := Config{Stream: "ebb"}
	for server := range strings.SplitSeq(strings.TrimPrefix(text, "nats://"), ",") {
		u, err := url.Parse("nats://" + server)
		switch {
		case err != nil:
			return Config{}, brokerurl.NotValid()
		case u.Hostname() == "":
			return Config{}, brokerurl.Invalid("has no host; want nats://HOST:4222")
		case u.Path != "" || u.Fragment != "":
			return Config{}, brokerurl.Invalid("has text after its host; want nats://HOST:4222?name=ebb")
		}
	}
	cfg.URL = text
	err := brokerurl.Parameters(query, func(name, value string) (err error) {
		switch name {
		case "name":
			if cfg.Stream = value; !brokerurl.IsName(value) {
				return brokerurl.InvalidName()
			}
		case "replicas":
			cfg.Replicas, err = brokerurl.Number("has invalid replicas", value, 5)
			return err
		default:
			return brokerurl.Invalid("has an unknown parameter (use name or replicas)")
		}
		return nil
	})
	return cfg, err
}
