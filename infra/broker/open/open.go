// Package open chooses a broker by its URL:
//
//	nats:PATH                 an embedded NATS server with its data in a directory, for one process
//	nats://host:4222          a NATS cluster, see package nats
//	kafka://host:9092         a Kafka cluster, see package kafka
//	amqp://host:5672/vhost    RabbitMQ, see package rabbitmq; amqps:// with TLS
//	redis://host:6379         a Redis server, see package redis; rediss:// with TLS, redis+unix:PATH for a socket
//	sqs://region              SNS and SQS of AWS, see package sqs; in programs that import package aws below this one
//	pubsub://project          Pub/Sub of Google Cloud, see package pubsub
//
// Only commands, hosts and tests import it. The error of an invalid URL is a predicate, such as "has no host", before
// which the caller puts the name of the setting. It contains no part of the URL, because any part may be a password.
package open

import (
	"strings"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/kafka"
	"github.com/ebb-dev/ebb/infra/broker/nats"
	"github.com/ebb-dev/ebb/infra/broker/pubsub"
	"github.com/ebb-dev/ebb/infra/broker/rabbitmq"
	"github.com/ebb-dev/ebb/infra/broker/redis"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/editdistance"
)

// driver is a kind of broker: the prefix of its URLs, their form for errors, and the driver's functions. A new driver
// adds a line here and one to the package comment, and then `go test ./infra/broker/open -write` writes the table in
// docs/brokers.md.
type driver struct {
	prefix, form string
	open         func(url string) (broker.Opener, error)
	capabilities func() broker.Capabilities
}

var drivers = []driver{
	{"nats:", "nats:PATH, nats://HOST:4222", nats.Opener, nats.Capabilities},
	{"kafka://", "kafka://HOST:9092", kafka.Opener, kafka.Capabilities},
	{"amqp://", "amqp://HOST:5672", rabbitmq.Opener, rabbitmq.Capabilities},
	{"amqps://", "", rabbitmq.Opener, rabbitmq.Capabilities},
	{"redis://", "redis://HOST:6379", redis.Opener, redis.Capabilities},
	{"rediss://", "", redis.Opener, redis.Capabilities},
	{"redis+unix:", "", redis.Opener, redis.Capabilities},
	{"sqs:", "sqs://REGION", notLinked, nil},
	{"pubsub://", "pubsub://PROJECT", pubsub.Opener, pubsub.Capabilities},
}

func notLinked(string) (broker.Opener, error) {
	return nil, invalid("needs AWS's clients, which this program lacks; use the command ebb serve")
}

// SQS sets the functions of the driver over SQS. Package aws below this one calls it.
func SQS(open func(url string) (broker.Opener, error), capabilities func() broker.Capabilities) {
	for i := range drivers {
		if drivers[i].prefix == "sqs:" {
			drivers[i].open, drivers[i].capabilities = open, capabilities
		}
	}
}

// ByURL returns the opener of the broker with this URL. It refuses an invalid URL; it opens nothing itself.
func ByURL(url string) (broker.Opener, error) {
	d, err := byURL(url)
	if err != nil {
		return nil, err
	}
	return d.open(url)
}

// Capabilities returns those of the broker with this URL.
func Capabilities(url string) (broker.Capabilities, error) {
	d, err := byURL(url)
	if err != nil {
		return broker.Capabilities{}, err
	}
	if d.capabilities == nil {
		_, err := d.open(url)
		return broker.Capabilities{}, err
	}
	return d.capabilities(), nil
}

func byURL(url string) (driver, error) {
	for _, d := range drivers {
		if strings.HasPrefix(url, d.prefix) {
			return d, nil
		}
	}
	if url == "" {
		return driver{}, invalid("is empty (use %s)", forms())
	}
	for _, d := range drivers {
		if similar(url, d.prefix) {
			return driver{}, invalid("has an unknown scheme; did you mean %s?", d.prefix)
		}
	}
	return driver{}, invalid("has an unknown scheme (use %s)", forms())
}

// forms returns the forms of all URLs, for errors.
func forms() string {
	var all []string
	for _, d := range drivers {
		if d.form != "" {
			all = append(all, d.form)
		}
	}
	return strings.Join(all, ", ")
}

// similar reports whether the scheme of a URL differs from that of a prefix by at most two letters, or by what follows
// it.
func similar(url, prefix string) bool {
	name, _, _ := strings.Cut(prefix, ":")
	typed, _, found := strings.Cut(url, ":")
	return found && len(typed) <= len(name)+2 && editdistance.Distance(strings.ToLower(typed), name) <= 2
}

func invalid(format string, args ...any) error { return fault.New(fault.Invalid, format, args...) }
