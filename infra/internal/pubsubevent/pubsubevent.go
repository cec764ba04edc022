// Package pubsubevent reads and writes CloudEvents in messages of Google Cloud Pub/Sub, by the CloudEvents binding for
// it: in the structured mode, and in the binary mode only for reading.
package pubsubevent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
)

const (
	// contentType is the attribute that tells the mode, and structured its value in the structured one.
	contentType = "content-type"
	structured  = "application/cloudevents+json"

	// prefix begins the attributes of the binary mode.
	prefix = "ce-"

	// maxAttribute is the most bytes of an attribute's value and of an ordering key.
	maxAttribute = 1024

	// deadLetterSource is the attribute that Pub/Sub adds to a message that it moves to a dead-letter topic.
	deadLetterSource = "CloudPubSubDeadLetterSourceSubscription"
)

// Message is a message of Pub/Sub.
type Message struct {
	Data        []byte            `json:"data,omitempty"`
	Attributes  map[string]string `json:"attributes,omitempty"`
	OrderingKey string            `json:"orderingKey,omitempty"`
}

// filtered are the attributes of an event that are attributes of its message, by which subscriptions can filter.
func filtered(e *ce.Event) map[string]string {
	return map[string]string{
		"type": e.Type(), "source": e.Source(), "subject": e.Subject(), event.ReplayTo: event.Extension(*e, event.ReplayTo),
	}
}

// Encode returns the event as a message in the structured mode. Its ordering key is the partition key, or the hash of
// one that is too long.
func Encode(e *ce.Event) (Message, error) {
	body, err := event.ToJSON(*e)
	if err != nil {
		return Message{}, fault.Wrap(err, fault.Invalid, "event %q has no JSON form", e.ID())
	}
	m := Message{
		Data: body, OrderingKey: orderingKey(event.Extension(*e, event.PartitionKey)),
		Attributes: map[string]string{contentType: structured + "; charset=utf-8"},
	}
	for name, value := range filtered(e) {
		if value != "" && len(value) <= maxAttribute && utf8.ValidString(value) {
			m.Attributes[name] = value
		}
	}
	return m, nil
}

func orderingKey(key string) string {
	if len(key) <= maxAttribute && utf8.ValidString(key) {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Decode returns the event of a message in the structured or in the binary mode. Its errors are fault.Invalid.
func Decode(m Message) (e ce.Event, err error) {
	kind := m.attribute(contentType)
	if kind == "" && m.attribute(prefix+"specversion") != "" || kind != "" && !strings.HasPrefix(kind, structured) {
		e, err = m.binary()
	} else {
		e, err = event.FromJSON(m.Data)
	}
	if err == nil {
		err = event.CheckAttributes(e)
	}
	if err != nil {
		return ce.Event{}, fault.Wrap(err, fault.Invalid, "the message is no CloudEvent: %.200v", err)
	}
	return e, nil
}

// attribute returns an attribute whose name may be in capitals.
func (m Message) attribute(name string) string {
	for key, value := range m.Attributes {
		if strings.EqualFold(key, name) {
			return value
		}
	}
	return ""
}

// attributes are those of CloudEvents 1.0 that an attribute ce-NAME may have. The content type has one of its own.
var attributes = []string{"id", "source", "type", "subject", "time", "dataschema"}

// binary returns the event of a message in the binary mode. An event of version 0.3 is read as one of 1.0.
func (m Message) binary() (e ce.Event, err error) {
	version := m.attribute(prefix + "specversion")
	if version != ce.CloudEventsVersionV1 && version != ce.CloudEventsVersionV03 {
		return e, fault.New(fault.Invalid, "it has the version %.20q", version)
	}
	c := &ce.EventContextV1{}
	e.Context = c
	seen := map[string]bool{}
	for key, value := range m.Attributes {
		key = strings.ToLower(key)
		name, ours := strings.CutPrefix(key, prefix)
		if !ours && key != contentType {
			continue
		}
		if seen[key] {
			return e, fault.New(fault.Invalid, "the attribute %.50q comes twice", key)
		}
		seen[key] = true
		if version == ce.CloudEventsVersionV03 && name == "schemaurl" {
			name = "dataschema"
		}
		switch {
		case key == contentType:
			err = event.SetAttribute(c, "datacontenttype", value)
		case name == "specversion":
		case slices.Contains(attributes, name):
			err = event.SetAttribute(c, name, value)
		default:
			err = c.SetExtension(name, value)
		}
		if err != nil {
			return e, fault.Wrap(err, fault.Invalid, "the attribute %.50q: %v", key, err)
		}
	}
	if m.OrderingKey != "" && event.Extension(e, event.PartitionKey) == "" {
		e.SetExtension(event.PartitionKey, m.OrderingKey)
	}
	e.DataEncoded, e.DataBase64 = m.Data, !utf8.Valid(m.Data)
	return e, nil
}

// Push is what a push subscription sends.
type Push struct {
	Event    ce.Event
	DeadFrom string // of a message that Pub/Sub has moved to a dead-letter topic: the subscription that gave it up
}

// ReadPush returns the event of the body of a push request with Pub/Sub's own wrapping. Its errors are fault.Invalid.
func ReadPush(body []byte) (p Push, err error) {
	var envelope struct {
		Message      *Message `json:"message"`
		Subscription string   `json:"subscription"`
	}
	if err := json.Unmarshal(body, &envelope); err != nil || envelope.Message == nil {
		return p, fault.New(fault.Invalid, "the request is no push of Pub/Sub: want a JSON object with a message")
	}
	p.DeadFrom = envelope.Message.attribute(deadLetterSource)
	p.Event, err = Decode(*envelope.Message)
	return p, err
}
