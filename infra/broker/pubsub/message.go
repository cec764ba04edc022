package pubsub

import (
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/internal/pubsubevent"
)

// encode returns the event as a message. Subscriptions can filter by the attributes type, source, subject and
// ebbreplayto.
func encode(e *ce.Event) (*pubsubpb.PubsubMessage, error) {
	m, err := pubsubevent.Encode(e)
	if err != nil {
		return nil, err
	}
	return &pubsubpb.PubsubMessage{Data: m.Data, Attributes: m.Attributes, OrderingKey: m.OrderingKey}, nil
}

// decode returns the event of a message. Its errors are fault.Invalid.
func decode(m *pubsubpb.PubsubMessage) (ce.Event, error) {
	return pubsubevent.Decode(pubsubevent.Message{
		Data: m.GetData(), Attributes: m.GetAttributes(), OrderingKey: m.GetOrderingKey(),
	})
}
