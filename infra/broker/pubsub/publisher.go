package pubsub

import (
	"context"
	"log/slog"
	"regexp"
	"strings"
	"sync"

	apiv1 "cloud.google.com/go/pubsub/v2/apiv1"
	ce "github.com/cloudevents/sdk-go/v2/event"
	"google.golang.org/api/option"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/internal/brokerurl"
	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/lifetime"
)

// Publisher publishes to a topic, for a function whose events a push subscription brings. It makes nothing in Pub/Sub,
// and connects with the first event. Its methods may be called concurrently.
type Publisher struct {
	project, topic string
	options        []option.ClientOption

	mu     sync.Mutex
	driver *driver // nil: not connected
}

var (
	_ broker.Publisher = (*Publisher)(nil)
	_ broker.Limiter   = (*Publisher)(nil)
)

// SinkPrefix begins the URLs that NewPublisher takes.
const SinkPrefix = "pubsub:"

// NewPublisher returns a publisher to the topic of a URL such as pubsub:projects/PROJECT/topics/TOPIC. The options are
// those of Config. The error of an invalid URL is a predicate without any part of the URL.
func NewPublisher(url string, options ...option.ClientOption) (*Publisher, error) {
	path, _ := strings.CutPrefix(url, SinkPrefix)
	m := regexp.MustCompile(`^projects/([a-z0-9-]+)/topics/([A-Za-z][A-Za-z0-9_.~+%-]+)$`).FindStringSubmatch(path)
	if m == nil {
		return nil, brokerurl.Invalid("is no topic of Pub/Sub; want pubsub:projects/PROJECT/topics/TOPIC")
	}
	return &Publisher{project: m[1], topic: m[2], options: options}, nil
}

// deadLetterRoom is how many bytes a dead letter may have more than its event: the place and the reason of the failure.
const deadLetterRoom = 2 << 10

// MaxEvent implements broker.Limiter.
func (p *Publisher) MaxEvent() int { return maxEvent - deadLetterRoom }

// Publish implements broker.Publisher.
func (p *Publisher) Publish(ctx context.Context, events ...ce.Event) error {
	if len(events) == 0 {
		return nil
	}
	checked, err := delivery.CheckEvents(events, p.MaxEvent())
	if err != nil {
		return err
	}
	d, err := p.connect()
	if err != nil {
		return err
	}
	switch err = d.Publish(ctx, checked); fault.KindOf(err) {
	case fault.Unavailable, fault.Exhausted:
		return err
	}
	if err != nil && ctx.Err() == nil {
		return fault.Wrap(err, fault.Unavailable, "the events could not be published: %s", fault.Public(err))
	}
	return err
}

// connect returns the driver, which it makes the first time.
func (p *Publisher) connect() (*driver, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.driver != nil {
		return p.driver, nil
	}
	d := &driver{cfg: Config{Project: p.project, Name: p.topic, Logger: slog.Default()}, lifetime: lifetime.New()}
	topics, err := apiv1.NewTopicAdminClient(d.lifetime.Context(), p.options...)
	if err != nil {
		d.lifetime.End()
		return nil, fault.Wrap(err, fault.Unavailable, "there are no credentials for Google Cloud")
	}
	d.topics, p.driver = topics, d
	return d, nil
}
