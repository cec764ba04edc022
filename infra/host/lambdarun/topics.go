package lambdarun

import (
	"context"
	"errors"
	"strings"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/sqs/sns"
	"github.com/ebb-dev/ebb/infra/config"
	hostsettings "github.com/ebb-dev/ebb/infra/host/internal/settings"
)

// topics are the SNS topics that a function publishes to; nil: there is none.
type topics struct{ events, dead *sns.Publisher }

// topics opens EBB_BROKER and EBB_DEAD_LETTERS. It sends nothing. Its errors are *config.Error.
func (s settings) topics() (t topics, err error) {
	var events, dead error
	t.events, events = topic("EBB_BROKER", s.Broker)
	t.dead, dead = topic("EBB_DEAD_LETTERS", s.Dead)
	return t, config.Join(events, dead)
}

func topic(variable, url string) (*sns.Publisher, error) {
	if url == "" {
		return nil, nil
	}
	open, err := sns.ByURL(url)
	if !strings.HasPrefix(url, "sns:") {
		err = errors.New("has an unknown scheme (use sns:ARN-OF-TOPIC)")
	}
	if err != nil {
		return nil, hostsettings.Error(variable, "%v", err)
	}
	p, err := open(context.Background())
	if err != nil {
		return nil, hostsettings.Error(variable, "%v", err)
	}
	return p, nil
}

// deadLetterRoom is how many bytes a dead letter may have more than its event: the place and the reason of the failure.
const deadLetterRoom = 2 << 10

// publisher is what a function publishes to. An event that is as large as the topic takes could not become a dead
// letter, so it takes less.
type publisher struct{ *sns.Publisher }

var _ broker.Limiter = publisher{}

// MaxEvent implements broker.Limiter.
func (p publisher) MaxEvent() int { return p.Publisher.MaxEvent() - deadLetterRoom }

// decode returns what reads the events of messages, with the data that large ones left in the store of blobs; nil: the
// function has no topic.
func (t topics) decode() func([]byte) (ce.Event, func(context.Context) (ce.Event, error), error) {
	if t.events == nil {
		return nil
	}
	blobs := t.events.Blobs()
	return func(body []byte) (ce.Event, func(context.Context) (ce.Event, error), error) {
		return sns.Read(body, blobs)
	}
}

// deadLetter returns what takes a dead letter; nil: the queue's redrive policy does.
func (t topics) deadLetter() func(context.Context, ce.Event) error {
	if t.dead == nil {
		return nil
	}
	return func(ctx context.Context, e ce.Event) error { return t.dead.Publish(ctx, e) }
}
