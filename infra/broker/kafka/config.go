package kafka

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/ebb-dev/ebb/infra/broker"
)

// Config configures the broker. Seeds must be set.
type Config struct {
	Seeds []string // HOST:PORT of some of the cluster's brokers

	Name   string   // the topic that events are published to, which identifies the broker; "": "ebb"
	Topics []string // further topics, of other producers, which triggers read too

	Partitions int // of a topic that the broker makes; 0: 12
	Replicas   int // of a topic that the broker makes; 0: the cluster's default

	TLS            *tls.Config // nil: none
	User, Password string      // "": none
	SASL           string      // plain, which needs TLS, scram-sha-256 or scram-sha-512; "": scram-sha-512 with a user
	Compression    string      // none, gzip, snappy, lz4 or zstd; "": none

	Lease time.Duration // how long a dead process holds its partitions, from 6 s by Kafka's default; 0: 10 s

	MaxEvent int             // the largest event in bytes; 0: 960 KiB
	Observer broker.Observer // nil: none
	Logger   *slog.Logger    // nil: slog.Default

	metadataAge time.Duration // how old the list of partitions may be
}

// defaultMaxEvent leaves room in a batch for what the size of an event does not count.
const defaultMaxEvent = 960 << 10

var codecs = map[string]func() kgo.CompressionCodec{
	"none": kgo.NoCompression, "gzip": kgo.GzipCompression, "snappy": kgo.SnappyCompression,
	"lz4": kgo.Lz4Compression, "zstd": kgo.ZstdCompression,
}

// mechanisms are the kinds of SASL.
var mechanisms = []string{"plain", "scram-sha-256", "scram-sha-512"}

// validate sets defaults and returns all problems. No error has the password.
func (c *Config) validate() error {
	var problems []error
	if len(c.Seeds) == 0 {
		problems = append(problems, errors.New("there is no seed, HOST:PORT"))
	}
	if c.Name == "" {
		c.Name = "ebb"
	}
	problems = append(problems, c.checkTopics()...)
	if c.Partitions < 0 || c.Replicas < 0 || c.Lease < 0 {
		problems = append(problems, errors.New("the partitions, the replicas and the lease must not be negative"))
	}
	if c.MaxEvent < 0 || c.MaxEvent > defaultMaxEvent {
		problems = append(problems, fmt.Errorf("the largest event must be from 0 to %d bytes", defaultMaxEvent))
	}
	if c.SASL == "" && c.User != "" {
		c.SASL = "scram-sha-512"
	}
	switch {
	case c.SASL != "" && !slices.Contains(mechanisms, c.SASL):
		problems = append(problems, fmt.Errorf("invalid SASL %q: want one of %s", c.SASL, strings.Join(mechanisms, ", ")))
	case c.SASL != "" && c.User == "":
		problems = append(problems, errors.New("SASL needs a user"))
	case c.SASL == "plain" && c.TLS == nil:
		problems = append(problems, errors.New("plain SASL would send the password in clear text: it needs TLS"))
	}
	if c.Compression == "" {
		c.Compression = "none"
	}
	if codecs[c.Compression] == nil {
		problems = append(problems, fmt.Errorf("invalid compression %q: want one of %s", c.Compression, codecNames()))
	}
	if c.MaxEvent == 0 {
		c.MaxEvent = defaultMaxEvent
	}
	if c.Partitions == 0 {
		c.Partitions = 12
	}
	if c.Lease == 0 {
		c.Lease = 10 * time.Second
	}
	if c.metadataAge == 0 {
		c.metadataAge = time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return errors.Join(problems...)
}

func codecNames() string { return strings.Join(slices.Sorted(maps.Keys(codecs)), ", ") }

// connection returns the client's options for the connections.
func (c *Config) connection() []kgo.Opt {
	opts := []kgo.Opt{kgo.SeedBrokers(c.Seeds...)}
	if c.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(c.TLS))
	}
	auth := scram.Auth{User: c.User, Pass: c.Password}
	switch c.SASL {
	case "plain":
		opts = append(opts, kgo.SASL(plain.Auth{User: c.User, Pass: c.Password}.AsMechanism()))
	case "scram-sha-256":
		opts = append(opts, kgo.SASL(auth.AsSha256Mechanism()))
	case "scram-sha-512":
		opts = append(opts, kgo.SASL(auth.AsSha512Mechanism()))
	}
	return opts
}
