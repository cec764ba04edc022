package pubsub

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

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

// identity returns a hash of the event's source, id and extensions. A replay of an event, and its dead letters of two
// triggers, differ by extensions.
func identity(e *ce.Event) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q", e.Source(), e.ID())
	extensions := e.Extensions()
	for _, name := range slices.Sorted(maps.Keys(extensions)) {
		text, _ := types.Format(extensions[name])
		fmt.Fprintf(h, " %s %q", name, text)
	}
	return hex.EncodeToString(h.Sum(nil))
}
