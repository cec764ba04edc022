package rabbitmq

import (
	"errors"
	"fmt"
	"mime"
	"slices"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/ebb-dev/ebb/infra/event"
)

// The AMQP binding of CloudEvents 1.0 with the headers of AMQP 0.9.1 as its application properties.
const (
	prefix    = "cloudEvents:"
	jmsPrefix = "cloudEvents_" // the other one that the binding allows; it is read only
)

// base64Header is true for data that the JSON format writes in base64. It is no part of the binding: without it such
// data is told by its content type alone.
const base64Header = "ebb:base64"

// message returns the event as a message in the binary mode.
func message(e *ce.Event) (amqp.Publishing, error) {
	c, ok := e.Context.(*ce.EventContextV1)
	if !ok {
		return amqp.Publishing{}, errors.New("the event is not of CloudEvents 1.0")
	}
	headers := amqp.Table{
		prefix + "specversion": ce.CloudEventsVersionV1, prefix + "id": c.ID, prefix + "type": c.Type,
		prefix + "source": c.Source.String(),
	}
	m := amqp.Publishing{Headers: headers, DeliveryMode: amqp.Persistent, Body: e.DataEncoded}
	if e.DataBase64 {
		headers[base64Header] = true
	}
	if c.DataContentType != nil {
		m.ContentType = *c.DataContentType
	}
	if c.Subject != nil {
		headers[prefix+"subject"] = *c.Subject
	}
	if c.Time != nil {
		headers[prefix+"time"] = c.Time.String() // AMQP's timestamp has seconds only
	}
	if c.DataSchema != nil {
		headers[prefix+"dataschema"] = c.DataSchema.String()
	}
	for name, value := range c.Extensions {
		value, err := event.Canonical(value)
		if err != nil {
			return amqp.Publishing{}, fmt.Errorf("extension %q: %w", name, err)
		}
		switch v := value.(type) {
		case string, bool, int32, []byte:
			headers[prefix+name] = v
		default:
			text, err := types.Format(v)
			if err != nil {
				return amqp.Publishing{}, fmt.Errorf("extension %q: %w", name, err)
			}
			headers[prefix+name] = text
		}
	}
	return m, nil
}

const (
	// maxHeader is the most bytes of all headers of a message, which travel in one frame: RabbitMQ takes 128 KiB by
	// default, and a frame has a few other fields.
	maxHeader = 120 << 10

	maxShort = 255 // bytes of AMQP's short strings
)

// checkHeader refuses a message whose properties AMQP cannot carry. RabbitMQ would close the connection, for all others
// too, each time that it is sent.
func checkHeader(m *amqp.Publishing) error {
	if len(m.ContentType) > maxShort {
		return fmt.Errorf("datacontenttype has %d bytes; want %d at most", len(m.ContentType), maxShort)
	}
	size := 0
	for name, value := range m.Headers {
		if len(name) > maxShort {
			return fmt.Errorf("the name of an extension has %d bytes; want %d at most", len(name)-len(prefix),
				maxShort-len(prefix))
		}
		size += len(name) + 8
		switch v := value.(type) {
		case string:
			size += len(v)
		case []byte:
			size += len(v)
		}
	}
	if size > maxHeader {
		return fmt.Errorf("they have %d bytes; want %d at most", size, maxHeader)
	}
	return nil
}

// eventOf returns the event of a message in the binary or the structured mode.
func eventOf(contentType string, headers amqp.Table, body []byte) (ce.Event, error) {
	media, _, _ := mime.ParseMediaType(contentType)
	if strings.HasPrefix(media, "application/cloudevents") {
		if media != ce.ApplicationCloudEventsJSON {
			return ce.Event{}, fmt.Errorf("its format %.100q is unknown", media)
		}
		e, err := event.FromJSON(body)
		if err != nil {
			return e, err
		}
		return e, event.CheckAttributes(e)
	}
	c := &ce.EventContextV1{}
	e := ce.Event{Context: c}
	version := false
	for field, value := range headers {
		name, ok := strings.CutPrefix(field, prefix)
		if !ok {
			name, ok = strings.CutPrefix(field, jmsPrefix)
		}
		if !ok {
			continue
		}
		version = version || name == "specversion"
		if err := setAttribute(c, name, value); err != nil {
			return e, fmt.Errorf("attribute %.50q: %w", name, err)
		}
	}
	if !version {
		return e, errors.New("it has no cloudEvents:specversion")
	}
	if contentType != "" {
		c.DataContentType = &contentType
	}
	if len(body) > 0 {
		e.DataEncoded = body
		e.DataBase64, _ = headers[base64Header].(bool)
	}
	return e, event.CheckAttributes(e)
}

var attributes = []string{"id", "source", "type", "subject", "time", "dataschema"}

// setAttribute sets an attribute from the value of a header.
func setAttribute(c *ce.EventContextV1, name string, value any) error {
	text, isText := value.(string)
	switch {
	case name == "specversion":
		if text != ce.CloudEventsVersionV1 {
			return errors.New("only CloudEvents 1.0 are accepted")
		}
		return nil
	case name == "data" || name == "datacontenttype":
		return errors.New("it is no header")
	case slices.Contains(attributes, name):
		if at, ok := value.(time.Time); ok && name == "time" {
			text, isText = at.UTC().Format(time.RFC3339Nano), true
		}
		if !isText {
			return fmt.Errorf("it is a %T, want a string", value)
		}
		return event.SetAttribute(c, name, text)
	}
	switch v := value.(type) {
	case int8:
		value = int32(v)
	case int16:
		value = int32(v)
	case time.Time:
		value = types.Timestamp{Time: v.UTC()}
	case string, bool, int32, []byte:
	default:
		return fmt.Errorf("CloudEvents has no type for a %T", value)
	}
	return c.SetExtension(name, value)
}
