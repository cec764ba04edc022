package pubsub

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	apiv1 "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/cloudevents/sdk-go/v2/event"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/lifetime"
)

const (
	// setupTimeout bounds Open, and each of Declare and Drop.
	setupTimeout = 20 * time.Second

	// callTimeout bounds any other request with its repetitions.
	callTimeout = 10 * time.Second

	// mostDeliveries is how often Pub/Sub hands a message out before it moves it; no more are possible.
	mostDeliveries = 100

	// maxRetention is how long a subscription can hold a message.
	maxRetention = 31 * 24 * time.Hour

	// maxBatch and maxBatchBytes bound what one request publishes.
	maxBatch      = 1000
	maxBatchBytes = 3 << 20

	// maxReceipts is how many messages one request acknowledges or extends: it has 512 KiB at most.
	maxReceipts = 1000
)

// driver implements eventqueue.Driver.
type driver struct {
	cfg    Config
	topics *apiv1.TopicAdminClient
	subs   *apiv1.SubscriptionAdminClient

	lifetime *lifetime.Lifetime // every request ends with it

	declaring sync.Mutex // one Declare or Drop at a time
}

var _ eventqueue.Driver = (*driver)(nil)

func openDriver(ctx context.Context, cfg Config) (*driver, error) {
	if cfg.Name == "" {
		cfg.Name = "ebb"
	}
	if cfg.Visibility == 0 {
		cfg.Visibility = 30 * time.Second
	}
	if cfg.Retention == 0 {
		cfg.Retention = maxRetention
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Project == "" {
		return nil, fault.New(fault.Invalid, "the broker over Pub/Sub has no project; want pubsub://PROJECT")
	}
	d := &driver{cfg: cfg, lifetime: lifetime.New()}
	ctx, done := d.lifetime.BindTimeout(ctx, setupTimeout)
	defer done()
	var err error
	if d.topics, err = apiv1.NewTopicAdminClient(d.lifetime.Context(), cfg.Options...); err != nil {
		d.lifetime.End()
		return nil, fault.Wrap(err, fault.Unauthenticated, "there are no credentials for Google Cloud")
	}
	if d.subs, err = apiv1.NewSubscriptionAdminClient(d.lifetime.Context(), cfg.Options...); err == nil {
		err = d.makeTopic(ctx, cfg.Name)
	}
	if err != nil {
		_ = d.Close()
		return nil, faultOf(ctx, err)
	}
	return d, nil
}

func (d *driver) topicPath(name string) string {
	return "projects/" + d.cfg.Project + "/topics/" + name
}
func (d *driver) subPath(name string) string {
	return "projects/" + d.cfg.Project + "/subscriptions/" + name
}

func (d *driver) subName(trigger string) string  { return d.cfg.Name + "-" + trigger }
func (d *driver) deadName(trigger string) string { return d.cfg.Name + "-" + trigger + "-dlq" }

// faultOf returns an error of Pub/Sub as a fault with a sentence for an operator. The error of an ended context stays.
func faultOf(ctx context.Context, err error) error {
	var known *fault.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	switch code := status.Code(err); {
	case ctx.Err() != nil && context.Cause(ctx) == context.Canceled:
		return ctx.Err()
	case code == codes.PermissionDenied:
		return fault.Wrap(err, fault.Denied, "Pub/Sub refuses: the service account lacks a role, see docs/deploy-google.md")
	case code == codes.Unauthenticated:
		return fault.Wrap(err, fault.Unauthenticated, "Pub/Sub does not accept the credentials")
	case code == codes.InvalidArgument:
		return fault.Wrap(err, fault.Invalid, "Pub/Sub refuses the request")
	case code == codes.NotFound:
		return fault.Wrap(err, fault.Unavailable, "the project, the topic or the subscription does not exist in Pub/Sub")
	case code == codes.ResourceExhausted:
		return fault.Wrap(err, fault.Exhausted, "a quota of Pub/Sub is used up; wait, or have it raised")
	}
	return fault.Wrap(err, fault.Unavailable, "Pub/Sub does not answer; see that it can be reached")
}

// Publish implements eventqueue.Driver. The events of one request are stored in their order, and the next request is
// sent when the one before it was answered.
func (d *driver) Publish(ctx context.Context, events []event.Event) error {
	messages := make([]*pubsubpb.PubsubMessage, len(events))
	for i := range events {
		m, err := encode(&events[i])
		if err != nil {
			return err
		}
		messages[i] = m
	}
	for len(messages) > 0 {
		n, size := 0, 0
		for n < min(len(messages), maxBatch) {
			if size += proto.Size(messages[n]); n > 0 && size > maxBatchBytes {
				break
			}
			n++
		}
		if err := d.send(ctx, d.cfg.Name, messages[:n]); err != nil {
			return err
		}
		messages = messages[n:]
	}
	return nil
}

func (d *driver) send(ctx context.Context, topic string, messages []*pubsubpb.PubsubMessage) error {
	ctx, done := d.lifetime.BindTimeout(ctx, callTimeout)
	defer done()
	_, err := d.topics.Publish(ctx, &pubsubpb.PublishRequest{Topic: d.topicPath(topic), Messages: messages})
	return faultOf(ctx, err)
}

func (d *driver) makeTopic(ctx context.Context, name string) error {
	_, err := d.topics.CreateTopic(ctx, &pubsubpb.Topic{Name: d.topicPath(name)})
	if status.Code(err) == codes.AlreadyExists {
		return nil
	}
	return err
}

// Declare implements eventqueue.Driver.
func (d *driver) Declare(ctx context.Context, trigger string) error {
	d.declaring.Lock()
	defer d.declaring.Unlock()
	ctx, done := d.lifetime.BindTimeout(ctx, setupTimeout)
	defer done()
	own := d.subscription(d.subName(trigger), d.cfg.Name)
	own.EnableMessageOrdering = true
	own.DeadLetterPolicy = &pubsubpb.DeadLetterPolicy{
		DeadLetterTopic: d.topicPath(d.deadName(trigger)), MaxDeliveryAttempts: mostDeliveries,
	}
	found, err := d.subs.GetSubscription(ctx, &pubsubpb.GetSubscriptionRequest{Subscription: own.Name})
	if err == nil {
		return d.check(found)
	}
	if status.Code(err) == codes.NotFound {
		err = d.makeTopic(ctx, d.deadName(trigger))
	}
	if err == nil {
		err = d.makeSubscription(ctx, d.subscription(d.deadName(trigger), d.deadName(trigger)))
	}
	if err == nil {
		err = d.makeSubscription(ctx, own)
	}
	return faultOf(ctx, err)
}

// subscription returns a subscription that never expires.
func (d *driver) subscription(name, topic string) *pubsubpb.Subscription {
	return &pubsubpb.Subscription{
		Name: d.subPath(name), Topic: d.topicPath(topic), AckDeadlineSeconds: int32(d.cfg.Visibility / time.Second),
		MessageRetentionDuration: durationpb.New(d.cfg.Retention), ExpirationPolicy: &pubsubpb.ExpirationPolicy{},
	}
}

func (d *driver) makeSubscription(ctx context.Context, s *pubsubpb.Subscription) error {
	_, err := d.subs.CreateSubscription(ctx, s)
	if status.Code(err) == codes.AlreadyExists {
		return nil
	}
	return err
}

// check refuses a subscription that exists with settings that lose events or their order.
func (d *driver) check(s *pubsubpb.Subscription) error {
	name := s.Name[strings.LastIndexByte(s.Name, '/')+1:]
	switch most := s.GetDeadLetterPolicy().GetMaxDeliveryAttempts(); {
	case s.Topic != d.topicPath(d.cfg.Name):
		return fault.New(fault.Conflict, "the subscription %s exists with another topic: %s", name, s.Topic)
	case !s.EnableMessageOrdering:
		return fault.New(fault.Conflict, "the subscription %s exists with other settings: it has no message ordering", name)
	case s.GetPushConfig().GetPushEndpoint() != "":
		return fault.New(fault.Conflict, "the subscription %s exists with other settings: its messages are pushed", name)
	case s.DeadLetterPolicy != nil && most < mostDeliveries:
		return fault.New(fault.Conflict, "the subscription %s exists with other settings: it has %d delivery attempts, "+
			"want %d, or Pub/Sub takes events away before their retries are over", name, most, mostDeliveries)
	}
	return nil
}

// Drop implements eventqueue.Driver.
func (d *driver) Drop(ctx context.Context, trigger string) error {
	d.declaring.Lock()
	defer d.declaring.Unlock()
	ctx, done := d.lifetime.BindTimeout(ctx, setupTimeout)
	defer done()
	for _, name := range []string{d.subName(trigger), d.deadName(trigger)} {
		err := d.subs.DeleteSubscription(ctx, &pubsubpb.DeleteSubscriptionRequest{Subscription: d.subPath(name)})
		if err != nil && status.Code(err) != codes.NotFound {
			return faultOf(ctx, err)
		}
	}
	err := d.topics.DeleteTopic(ctx, &pubsubpb.DeleteTopicRequest{Topic: d.topicPath(d.deadName(trigger))})
	if status.Code(err) == codes.NotFound {
		return nil
	}
	return faultOf(ctx, err)
}

// Close implements eventqueue.Driver.
func (d *driver) Close() error {
	d.lifetime.End()
	err := d.topics.Close()
	if d.subs != nil {
		err = errors.Join(err, d.subs.Close())
	}
	return err
}
