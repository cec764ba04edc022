// Package sns publishes CloudEvents to an SNS FIFO topic. Functions on Lambda publish with it, and package sqs does.
//
// The body of a message is the event in JSON. Its message group is the partition key, so that every FIFO queue that is
// subscribed hands out the events of a key in order. The deduplication id is a hash of the source, the id and the
// extensions: an event that is published twice within five minutes is handed out once, and later the inbox of a
// function knows it.
//
// An event that is larger than SNS takes, 256 KiB in JSON with its attributes, is a claim check with a store of blobs:
// its data is stored there first, under the hash of the data, and the message has the extension dataref instead. Decode
// reads it. Such blobs are never deleted here, as other triggers may still need them; the bucket has a rule for that.
//
// When Publish returns nil, SNS has stored all events in several zones. When it does not, events of one key that it has
// taken stand before those that it has not: an event is sent after the one before it of its key was taken.
package sns

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"
	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/blob"
	"github.com/ebb-dev/ebb/infra/blob/open"
	_ "github.com/ebb-dev/ebb/infra/blob/open/aws" // s3:
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/brokerurl"
	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/awsconfig"
)

const (
	// maxEvent is the most bytes of data and attributes of an event with a store of blobs.
	maxEvent = 1 << 20

	// maxBatch and maxBatchBytes bound what one request publishes.
	maxBatch      = 10
	maxBatchBytes = maxMessage

	// parallel is how many requests of one Publish run at once.
	parallel = 8

	// callTimeout bounds a request with its repetitions.
	callTimeout = 15 * time.Second
)

// Config names a topic.
type Config struct {
	Topic string      // ARN of a FIFO topic
	Blobs *blob.Store // where the data of large events goes; nil: such events are refused
}

// Publisher publishes to a topic. Its methods may be called concurrently.
type Publisher struct {
	// publish is a function, because a client in a field has the linker keep every operation that SNS has.
	publish func(context.Context, *sns.PublishBatchInput, ...func(*sns.Options)) (*sns.PublishBatchOutput, error)
	cfg     Config
}

var (
	_ broker.Publisher = (*Publisher)(nil)
	_ broker.Limiter   = (*Publisher)(nil)
)

// New returns a publisher with a client.
func New(client *sns.Client, cfg Config) *Publisher { return &Publisher{client.PublishBatch, cfg} }

// MaxEvent returns the most bytes of data and attributes of an event, with a store of blobs or without.
func MaxEvent(blobs *blob.Store) int {
	if blobs != nil {
		return maxEvent
	}
	return maxMessage
}

// MaxEvent implements broker.Limiter.
func (p *Publisher) MaxEvent() int { return MaxEvent(p.cfg.Blobs) }

// Blobs returns the store of the data of large events; nil: there is none.
func (p *Publisher) Blobs() *blob.Store { return p.cfg.Blobs }

// Publish implements broker.Publisher.
func (p *Publisher) Publish(ctx context.Context, events ...ce.Event) error {
	checked, err := delivery.CheckEvents(events, p.MaxEvent())
	if err != nil {
		return err
	}
	return p.Send(ctx, checked)
}

// Send publishes events that were checked. The error of an event that has no form for SNS is fault.Invalid, and then
// nothing was published.
func (p *Publisher) Send(ctx context.Context, events []ce.Event) error {
	messages := make([]message, len(events))
	for i := range events {
		m, err := encode(&events[i], p.cfg.Blobs)
		if err != nil {
			return err
		}
		messages[i] = m
	}
	for i := range messages {
		if c := messages[i].claim; c != nil {
			if err := p.cfg.Blobs.Put(ctx, c.key, c.Blob); err != nil {
				return fault.Wrap(err, fault.Unavailable, "the data of a large event was not stored: %s", fault.Public(err))
			}
		}
	}
	for len(messages) > 0 {
		var wave []message
		wave, messages = nextWave(messages)
		if err := p.sendAll(ctx, batches(wave)); err != nil {
			return err
		}
	}
	return nil
}

// nextWave returns the first messages of each key, and those that come after them. One request may fail for one of its
// messages only; a later message of that key must not have been taken then.
func nextWave(messages []message) (wave, later []message) {
	keys := make(map[string]bool, len(messages))
	for _, m := range messages {
		if m.key != "" && keys[m.key] {
			later = append(later, m)
			continue
		}
		keys[m.key] = true
		wave = append(wave, m)
	}
	return wave, later
}

// batches returns the messages as those of one request each.
func batches(messages []message) (out [][]message) {
	size := 0
	for _, m := range messages {
		last := len(out) - 1
		if last < 0 || len(out[last]) == maxBatch || size+m.size > maxBatchBytes {
			out, last, size = append(out, nil), last+1, 0
		}
		out[last] = append(out[last], m)
		size += m.size
	}
	return out
}

// sendAll sends requests, some of them at once, and returns the first error.
func (p *Publisher) sendAll(ctx context.Context, requests [][]message) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if len(requests) == 1 {
		return p.send(ctx, requests[0])
	}
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		first   error
		room    = make(chan struct{}, parallel)
	)
	for _, r := range requests {
		room <- struct{}{}
		running.Go(func() {
			defer func() { <-room }()
			if err := p.send(ctx, r); err != nil {
				mu.Lock()
				defer mu.Unlock()
				if first == nil {
					first = err
				}
			}
		})
	}
	running.Wait()
	return first
}

func (p *Publisher) send(ctx context.Context, messages []message) error {
	in := &sns.PublishBatchInput{TopicArn: &p.cfg.Topic}
	for i := range messages {
		m := &messages[i]
		attributes := map[string]types.MessageAttributeValue{}
		for _, a := range m.attributes {
			attributes[a[0]] = types.MessageAttributeValue{DataType: aws.String("String"), StringValue: aws.String(a[1])}
		}
		in.PublishBatchRequestEntries = append(in.PublishBatchRequestEntries, types.PublishBatchRequestEntry{
			Id: aws.String(strconv.Itoa(i)), Message: &m.body, MessageGroupId: &m.group, MessageDeduplicationId: &m.dedup,
			MessageAttributes: attributes,
		})
	}
	out, err := p.publish(ctx, in)
	if err != nil {
		return p.refusal(ctx, err)
	}
	for _, f := range out.Failed {
		return refused(aws.ToString(f.Code), aws.ToString(f.Message))
	}
	if len(out.Successful) != len(messages) {
		return fault.New(fault.Unavailable, "SNS has confirmed %d events of %d", len(out.Successful), len(messages))
	}
	return nil
}

func (p *Publisher) refusal(ctx context.Context, err error) error {
	if code := awsconfig.Code(err); code == "NotFound" || code == "NotFoundException" {
		return fault.Wrap(err, fault.Unavailable, "there is no topic %s", p.cfg.Topic)
	}
	return awsconfig.Fault(ctx, err, "SNS")
}

// refused returns the fault of one message of a request.
func refused(code, text string) error {
	cause := errors.New(code + ": " + text)
	if code == "InvalidParameter" || code == "InvalidParameterValue" {
		return fault.Wrap(cause, fault.Invalid, "SNS does not take an event: %s", text)
	}
	return fault.Wrap(cause, fault.Unavailable, "SNS has not taken an event: %s", code)
}

// ByURL returns what opens the publisher of sns:ARN-OF-TOPIC, or sns:ARN-OF-TOPIC?blobs=s3://BUCKET. The error of an
// invalid URL is a predicate without any part of it. Opening sends nothing, so that the topic may be away.
func ByURL(text string) (func(context.Context) (*Publisher, error), error) {
	arn, query, _ := strings.Cut(strings.TrimPrefix(text, "sns:"), "?")
	region, err := checkTopic(arn)
	if err != nil {
		return nil, err
	}
	blobs := ""
	err = brokerurl.Parameters(query, func(name, value string) error {
		if name != "blobs" {
			return brokerurl.Invalid("has an unknown parameter (use blobs)")
		}
		blobs = value
		return brokerurl.CheckBlobs(value, "s3")
	})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (*Publisher, error) {
		settings, err := awsconfig.Load(ctx, region)
		if err != nil {
			return nil, err
		}
		store, err := OpenBlobs(ctx, blobs)
		if err != nil {
			return nil, err
		}
		return New(sns.NewFromConfig(settings), Config{Topic: arn, Blobs: store}), nil
	}, nil
}

// checkTopic returns the region of a FIFO topic's ARN.
func checkTopic(arn string) (region string, err error) {
	parts := strings.Split(arn, ":")
	switch {
	case len(parts) != 6 || parts[0] != "arn" || parts[2] != "sns" || parts[3] == "" || parts[5] == "":
		return "", brokerurl.Invalid("has no ARN of a topic; want sns:arn:aws:sns:REGION:ACCOUNT:NAME.fifo")
	case !strings.HasSuffix(parts[5], ".fifo"):
		return "", brokerurl.Invalid("names a topic that is not FIFO, which keeps no order; want a name that ends in .fifo")
	}
	return parts[3], nil
}

// OpenBlobs opens the store of blobs with this address; "": nil.
func OpenBlobs(ctx context.Context, address string) (*blob.Store, error) {
	if address == "" {
		return nil, nil
	}
	d, err := open.ByURL(ctx, address)
	if err != nil {
		return nil, err
	}
	return blob.New(d, blob.Rules{MaxBytes: 2 * maxEvent}), nil
}
