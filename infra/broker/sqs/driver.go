package sqs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssns "github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
	"github.com/ebb-dev/ebb/infra/broker/internal/eventqueue"
	"github.com/ebb-dev/ebb/infra/broker/sqs/sns"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/awsconfig"
	"github.com/ebb-dev/ebb/infra/internal/lifetime"
)

const (
	// A subscription is asked for this often, and a while in between.
	subscribeTries = 3
	subscribePause = 200 * time.Millisecond

	// setupTimeout bounds Open, and each of Declare and Drop.
	setupTimeout = 15 * time.Second

	// callTimeout bounds any other request with its repetitions.
	callTimeout = 10 * time.Second

	// mostReceives is how often SQS hands a message out before its redrive policy moves it; no more are possible.
	mostReceives = 1000

	// fewestReceives is what a queue that exists must allow. Restarts and takeovers count as well.
	fewestReceives = 100

	// retention is how long a queue holds a message; no longer is possible.
	retention = 14 * 24 * time.Hour

	maxQueueName = 80
)

// driver implements eventqueue.Driver.
type driver struct {
	cfg   Config
	sqs   *sqs.Client
	sns   *awssns.Client
	topic string // its ARN
	*sns.Publisher

	lifetime *lifetime.Lifetime // every request ends with it

	declaring sync.Mutex // one Declare at a time, so that a queue is subscribed once
	mu        sync.Mutex
	urls      map[string]string // of queues, by name
}

var _ eventqueue.Driver = (*driver)(nil)

func openDriver(ctx context.Context, cfg Config) (*driver, error) {
	if cfg.Name == "" {
		cfg.Name = "ebb"
	}
	if cfg.Visibility == 0 {
		cfg.Visibility = 30 * time.Second
	}
	if cfg.Wait == 0 {
		cfg.Wait = 20 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	settings, err := awsconfig.Load(ctx, cfg.Region)
	if err != nil {
		return nil, err
	}
	if settings.Region == "" {
		return nil, fault.New(fault.Invalid, "the broker over SQS has no region; want sqs://REGION, or AWS_REGION")
	}
	d := &driver{
		cfg: cfg, sqs: sqs.NewFromConfig(settings), sns: awssns.NewFromConfig(settings), urls: map[string]string{},
		lifetime: lifetime.New(),
	}
	ctx, done := d.lifetime.BindTimeout(ctx, setupTimeout)
	defer done()
	out, err := d.sns.CreateTopic(ctx, &awssns.CreateTopicInput{
		Name: aws.String(cfg.Name + ".fifo"), Attributes: map[string]string{"FifoTopic": "true"},
	})
	if err != nil {
		if code := awsconfig.Code(err); code == "InvalidParameter" || code == "InvalidParameterException" {
			err = fault.Wrap(err, fault.Conflict, "the topic %s.fifo exists with other settings", cfg.Name)
		}
		err = awsconfig.Fault(ctx, err, "SNS")
		d.lifetime.End()
		return nil, err
	}
	d.topic = aws.ToString(out.TopicArn)
	d.Publisher = sns.New(d.sns, sns.Config{Topic: d.topic, Blobs: cfg.Blobs})
	return d, nil
}

// Publish implements eventqueue.Driver.
func (d *driver) Publish(ctx context.Context, events []event.Event) error {
	ctx, release := d.lifetime.Bind(ctx)
	defer release()
	return d.Send(ctx, events)
}

func (d *driver) queueName(trigger string) string { return d.cfg.Name + "-" + trigger + ".fifo" }

func (d *driver) deadName(trigger string) string { return d.cfg.Name + "-" + trigger + "-dlq.fifo" }

// Declare implements eventqueue.Driver.
func (d *driver) Declare(ctx context.Context, trigger string) error {
	if strings.HasSuffix(trigger, "-dlq") || len(d.deadName(trigger)) > maxQueueName {
		return fault.New(fault.Invalid, "trigger %q has no queue: want a name that does not end in -dlq, and has %d "+
			"characters at most", trigger, maxQueueName-len(d.deadName("")))
	}
	d.declaring.Lock()
	defer d.declaring.Unlock()
	ctx, done := d.lifetime.BindTimeout(ctx, setupTimeout)
	defer done()
	return awsconfig.Fault(ctx, d.declare(ctx, trigger), "SQS")
}

func (d *driver) declare(ctx context.Context, trigger string) error {
	_, dead, err := d.makeQueue(ctx, d.deadName(trigger), nil)
	if err != nil {
		return err
	}
	name := d.queueName(trigger)
	_, arn, err := d.makeQueue(ctx, name, map[string]string{
		"VisibilityTimeout": seconds(d.cfg.Visibility), "ReceiveMessageWaitTimeSeconds": seconds(d.cfg.Wait),
		"RedrivePolicy": fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":"%d"}`, dead, mostReceives),
		"Policy": fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":`+
			`"sns.amazonaws.com"},"Action":"sqs:SendMessage","Resource":%q,"Condition":{"ArnEquals":{"aws:SourceArn":%q}}}]}`,
			d.arnOf(name), d.topic),
	})
	if err != nil {
		return err
	}
	return d.subscribe(ctx, arn)
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) }

// arnOf returns the ARN of a queue in the topic's region and account.
func (d *driver) arnOf(queue string) string {
	parts := strings.Split(d.topic, ":")
	parts[2], parts[len(parts)-1] = "sqs", queue
	return strings.Join(parts, ":")
}

// makeQueue makes a FIFO queue, or checks the one that exists, and returns its URL and ARN.
func (d *driver) makeQueue(ctx context.Context, name string, more map[string]string) (url, arn string, err error) {
	url, err = d.findQueue(ctx, name)
	if err == nil && url == "" {
		attributes := map[string]string{
			"FifoQueue": "true", "DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId",
			"MessageRetentionPeriod": seconds(retention),
		}
		for k, v := range more {
			attributes[k] = v
		}
		var out *sqs.CreateQueueOutput
		out, err = d.sqs.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
		var other *types.QueueNameExists // another process was quicker
		switch {
		case err == nil:
			url = aws.ToString(out.QueueUrl)
		case errors.As(err, &other):
			url, err = d.findQueue(ctx, name)
		}
	}
	if err != nil {
		return "", "", err
	}
	arn, err = d.checkQueue(ctx, name, url)
	if err != nil {
		return "", "", err
	}
	d.mu.Lock()
	d.urls[name] = url
	d.mu.Unlock()
	return url, arn, nil
}

// findQueue returns the URL of a queue; "": there is none.
func (d *driver) findQueue(ctx context.Context, name string) (string, error) {
	out, err := d.sqs.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &name})
	if isGone(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return aws.ToString(out.QueueUrl), nil
}

func isGone(err error) bool {
	code := awsconfig.Code(err)
	return code == "QueueDoesNotExist" || code == "NonExistentQueue"
}

// checkQueue returns the ARN of a queue. It refuses one with settings that break what the broker promises.
func (d *driver) checkQueue(ctx context.Context, name, url string) (arn string, err error) {
	out, err := d.sqs.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: &url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
	})
	if err != nil {
		return "", err
	}
	a := out.Attributes
	var redrive struct {
		Most json.Number `json:"maxReceiveCount"`
	}
	if policy := a["RedrivePolicy"]; policy != "" {
		if err := json.Unmarshal([]byte(policy), &redrive); err != nil {
			return "", fault.Wrap(err, fault.Conflict, "the queue %s has a redrive policy that cannot be read", name)
		}
	}
	switch most, _ := redrive.Most.Int64(); {
	case a["FifoQueue"] != "true":
		err = fault.New(fault.Conflict, "the queue %s exists with other settings: it is not FIFO", name)
	case a["DelaySeconds"] != "" && a["DelaySeconds"] != "0":
		err = fault.New(fault.Conflict, "the queue %s exists with other settings: DelaySeconds is %s, want 0", name,
			a["DelaySeconds"])
	case redrive.Most != "" && most < fewestReceives:
		err = fault.New(fault.Conflict, "the queue %s exists with other settings: maxReceiveCount is %d, want %d at least, "+
			"or SQS takes events away before their retries are over", name, most, fewestReceives)
	}
	return a["QueueArn"], err
}

// subscribe subscribes the queue to the topic, unless it is.
func (d *driver) subscribe(ctx context.Context, arn string) error {
	once := func(o *awssns.Options) { o.Retryer = aws.NopRetryer{} }
	for try := 1; ; try++ {
		subscription, err := d.subscription(ctx, arn) // also of a request that has failed and was done all the same
		if err != nil || subscription != "" {
			return err
		}
		_, err = d.sns.Subscribe(ctx, &awssns.SubscribeInput{
			TopicArn: &d.topic, Protocol: aws.String("sqs"), Endpoint: &arn,
			Attributes: map[string]string{"RawMessageDelivery": "true"},
		}, once)
		if err == nil || try == subscribeTries {
			return awsconfig.Fault(ctx, err, "SNS")
		}
		delivery.Pause(ctx, subscribePause)
	}
}

// subscription returns the ARN of the queue's subscription; "": there is none.
func (d *driver) subscription(ctx context.Context, queue string) (string, error) {
	pages := awssns.NewListSubscriptionsByTopicPaginator(d.sns, &awssns.ListSubscriptionsByTopicInput{TopicArn: &d.topic})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return "", awsconfig.Fault(ctx, err, "SNS")
		}
		for _, s := range page.Subscriptions {
			if aws.ToString(s.Endpoint) == queue {
				return aws.ToString(s.SubscriptionArn), nil
			}
		}
	}
	return "", nil
}

// Drop implements eventqueue.Driver.
func (d *driver) Drop(ctx context.Context, trigger string) error {
	d.declaring.Lock()
	defer d.declaring.Unlock()
	ctx, done := d.lifetime.BindTimeout(ctx, setupTimeout)
	defer done()
	subscription, err := d.subscription(ctx, d.arnOf(d.queueName(trigger)))
	if err == nil && subscription != "" {
		_, err = d.sns.Unsubscribe(ctx, &awssns.UnsubscribeInput{SubscriptionArn: &subscription})
		err = awsconfig.Fault(ctx, err, "SNS")
	}
	for _, name := range []string{d.queueName(trigger), d.deadName(trigger)} {
		var url string
		if err == nil {
			url, err = d.findQueue(ctx, name)
		}
		if err != nil || url == "" {
			continue
		}
		if _, err = d.sqs.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: &url}); isGone(err) {
			err = nil
		}
	}
	return awsconfig.Fault(ctx, err, "SQS")
}

// url returns the URL of a queue that was declared.
func (d *driver) url(queue string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.urls[queue]
}

// Close implements eventqueue.Driver.
func (d *driver) Close() error {
	d.lifetime.End()
	return nil
}
