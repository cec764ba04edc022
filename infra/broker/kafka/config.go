package kafka

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/ebb-dev/ebb/infra/broker"
)

// Config configures the broker. URL must be set.
type Config struct {
	// URL is kafka://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…][/NAME] with, if need be, ?topics=A,B sets Topics;
	// partitions=12; replicas=3; tls=true; sasl=plain, scram-sha-256 or scram-sha-512, which is the default with a user;
	// compression=none, gzip, snappy, lz4 or zstd.
	URL string

	Name   string   // the topic that events are published to, which identifies the broker; "": "ebb"
	Topics []string // further topics, of other producers, which triggers read too

	Partitions int // of a topic that the broker makes; 0: 12
	Replicas   int // of a topic that the broker makes; 0: the cluster's default

	TLS *tls.Config // nil: none, unless the URL has tls=true

	Lease time.Duration // how long a dead process holds its partitions, from 6 s by Kafka's default; 0: 10 s

	MaxEvent int             // the largest event in bytes; 0: 960 KiB
	Observer broker.Observer // nil: none
	Logger   *slog.Logger    // nil: slog.Default

	seeds          []string
	user, password string
	sasl           string
	codec          string
	metadataAge    time.Duration // how old the list of partitions may be
}

// defaultMaxEvent leaves room in a batch for what the size of an event does not count.
const defaultMaxEvent = 960 << 10

var codecs = map[string]func() kgo.CompressionCodec{
	"none": kgo.NoCompression, "gzip": kgo.GzipCompression, "snappy": kgo.SnappyCompression,
	"lz4": kgo.Lz4Compression, "zstd": kgo.ZstdCompression,
}

// mechanisms are the kinds of SASL.
var mechanisms = []string{"plain", "scram-sha-256", "scram-sha-512"}

// validate reads the URL, sets defaults and returns all problems. No error has the password.
func (c *Config) validate() error {
	problems := c.parseURL()
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

var errURL = errors.New("invalid URL: want kafka://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…][/NAME]")

func (c *Config) parseURL() (problems []error) {
	// Package url does not take several ports: each address is parsed for itself.
	rest, isKafka := strings.CutPrefix(c.URL, "kafka://")
	authority := rest
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority = rest[:i]
	}
	u, err := url.Parse("kafka://" + strings.TrimPrefix(rest, authority))
	if !isKafka || err != nil {
		return []error{errURL}
	}
	if at := strings.LastIndex(authority, "@"); at >= 0 {
		user, err := url.Parse("kafka://" + authority[:at] + "@host")
		if err != nil || user.User == nil {
			return []error{errURL}
		}
		c.user = user.User.Username()
		c.password, _ = user.User.Password()
		authority = authority[at+1:]
	}
	for seed := range strings.SplitSeq(authority, ",") {
		host, port, err := net.SplitHostPort(seed)
		if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil || n == 0 || host == "" {
			return []error{errURL}
		}
		c.seeds = append(c.seeds, seed)
	}
	if name := strings.Trim(u.Path, "/"); name != "" {
		c.Name = name
	}
	return c.parseQuery(u)
}

func (c *Config) parseQuery(u *url.URL) (problems []error) {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return []error{errURL}
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		value := query.Get(name)
		var err error
		switch name {
		case "topics":
			c.Topics = append(c.Topics, strings.Split(value, ",")...)
		case "partitions":
			c.Partitions, err = strconv.Atoi(value)
		case "replicas":
			c.Replicas, err = strconv.Atoi(value)
		case "tls":
			var on bool
			if on, err = strconv.ParseBool(value); on && c.TLS == nil {
				c.TLS = &tls.Config{}
			}
		case "sasl":
			if c.sasl = value; !slices.Contains(mechanisms, value) {
				err = fmt.Errorf("want one of %s", strings.Join(mechanisms, ", "))
			}
		case "compression":
			if c.codec = value; codecs[value] == nil {
				err = fmt.Errorf("want one of %s", strings.Join(slices.Sorted(maps.Keys(codecs)), ", "))
			}
		default:
			err = errors.New("unknown setting (use topics, partitions, replicas, tls, sasl or compression)")
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("invalid %s=%s in the URL: %w", name, value, err))
		}
	}
	if c.sasl != "" && c.user == "" {
		problems = append(problems, errors.New("the URL has sasl, and no user"))
	}
	if c.user != "" && c.sasl == "" {
		c.sasl = "scram-sha-512"
	}
	if c.sasl == "plain" && c.TLS == nil {
		problems = append(problems, errors.New("sasl=plain would send the password in clear text: add tls=true"))
	}
	return problems
}

// compression returns the codec of what is published.
func (c *Config) compression() kgo.CompressionCodec {
	if codec := codecs[c.codec]; codec != nil {
		return codec()
	}
	return kgo.NoCompression()
}

// connection returns the client's options for the connections.
func (c *Config) connection() []kgo.Opt {
	opts := []kgo.Opt{kgo.SeedBrokers(c.seeds...)}
	if c.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(c.TLS))
	}
	auth := scram.Auth{User: c.user, Pass: c.password}
	switch c.sasl {
	case "plain":
		opts = append(opts, kgo.SASL(plain.Auth{User: c.user, Pass: c.password}.AsMechanism()))
	case "scram-sha-256":
		opts = append(opts, kgo.SASL(auth.AsSha256Mechanism()))
	case "scram-sha-512":
		opts = append(opts, kgo.SASL(auth.AsSha512Mechanism()))
	}
	return opts
}
