package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/brokerurl"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Capabilities returns what differs from other drivers.
func Capabilities() broker.Capabilities {
	return broker.Capabilities{
		Product:  "Apache Kafka 2.4 or later; tested with franz-go's fake cluster only",
		Binding:  "binary, `ce_` headers; structured is read too",
		Durable:  "what all replicas that are in sync survive",
		Order:    "the key decides the partition",
		Sharing:  "each serves some of the partitions",
		Crash:    "after the session timeout, 10 s",
		Filters:  broker.ByDelivery,
		Retries:  broker.ByDelivery,
		MaxEvent: defaultMaxEvent, DeadLetters: broker.ByDelivery, Deduplicates: 0, Keeps: true,
	}
}

// Opener returns the opener of a broker by its URL, kafka://[USER:PASSWORD@]HOST:PORT. It may name further brokers of
// the cluster with commas, and has these parameters: name, that of the topic (ebb); topics, further ones that triggers
// read too, with commas; partitions (12) and replicas of a topic that is made; tls=true; sasl (scram-sha-512) and
// compression (none). The error of an invalid URL is a predicate without any part of the URL.
func Opener(text string) (broker.Opener, error) {
	cfg, err := parseURL(text)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, opts broker.Options) (broker.Broker, error) {
		cfg := cfg
		cfg.Observer, cfg.Logger = opts.Observer, opts.Logger
		if opts.Part != "" {
			cfg.Name, cfg.Topics = cfg.Name+"-"+opts.Part, nil
		}
		return brokerurl.Opened(Open(ctx, cfg))
	}, nil
}

// refusal returns the fault of a cluster that cannot be used.
func refusal(err error) error {
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed), errors.Is(err, kerr.UnsupportedSaslMechanism):
		return fault.Wrap(err, fault.Unauthenticated, "the Kafka cluster does not accept the user or its password")
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.GroupAuthorizationFailed),
		errors.Is(err, kerr.ClusterAuthorizationFailed):
		return fault.Wrap(err, fault.Denied, "the Kafka cluster does not allow the user what the broker needs")
	}
	return fault.Wrap(err, fault.Unavailable, "no Kafka broker can be reached")
}

func parseURL(text string) (Config, error) {
	text, query, _ := strings.Cut(text, "?")
	rest, isKafka := strings.CutPrefix(text, "kafka://")
	if !isKafka {
		return Config{}, brokerurl.Invalid("has no host; want kafka://HOST:9092")
	}
	cfg := Config{Name: "ebb"}
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		u, err := url.Parse("kafka://" + rest[:at] + "@host")
		if err != nil {
			return Config{}, brokerurl.NotValid()
		}
		cfg.User = u.User.Username()
		cfg.Password, _ = u.User.Password()
		rest = rest[at+1:]
		if cfg.User == "" || u.Path != "" {
			return Config{}, brokerurl.Invalid("is not a valid URL; want kafka://USER:PASSWORD@HOST:9092")
		}
	}
	for seed := range strings.SplitSeq(rest, ",") {
		if strings.ContainsAny(seed, "/#") {
			return Config{}, brokerurl.Invalid("has text after its host; want kafka://HOST:9092?name=ebb")
		}
		host, port, err := net.SplitHostPort(seed)
		if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil || n == 0 || host == "" {
			return Config{}, brokerurl.Invalid("has a host without a port; want kafka://HOST:9092")
		}
		cfg.Seeds = append(cfg.Seeds, seed)
	}
	if err := brokerurl.Parameters(query, cfg.set); err != nil {
		return Config{}, err
	}
	checked := cfg
	if err := checked.validate(); err != nil {
		switch {
		case cfg.SASL != "" && cfg.User == "":
			return Config{}, brokerurl.Invalid("has sasl without a user")
		case cfg.SASL == "plain" && cfg.TLS == nil:
			return Config{}, brokerurl.Invalid("has sasl=plain without tls=true: the password would travel in clear text")
		}
		return Config{}, brokerurl.Invalid(
			"has an invalid name or invalid topics: want letters, digits, ., - and _ only, each once")
	}
	return cfg, nil
}

// set sets what a parameter says.
func (c *Config) set(name, value string) (err error) {
	switch name {
	case "name":
		c.Name = value
		if value == "" {
			return brokerurl.Invalid("has an empty name")
		}
	case "topics":
		c.Topics = strings.Split(value, ",")
	case "partitions":
		c.Partitions, err = brokerurl.Number("has invalid partitions", value, 1000)
	case "replicas":
		c.Replicas, err = brokerurl.Number("has invalid replicas", value, 9)
	case "tls":
		if value != "true" {
			return brokerurl.Invalid("has an invalid tls: want true")
		}
		c.TLS = &tls.Config{}
	case "sasl":
		if c.SASL = value; !slices.Contains(mechanisms, value) {
			return brokerurl.Invalid("has an invalid sasl: want one of %s", strings.Join(mechanisms, ", "))
		}
	case "compression":
		if c.Compression = value; codecs[value] == nil {
			return brokerurl.Invalid("has an invalid compression: want one of %s", codecNames())
		}
	default:
		return brokerurl.Invalid(
			"has an unknown parameter (use name, topics, partitions, replicas, tls, sasl or compression)")
	}
	return err
}
