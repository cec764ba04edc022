package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ebb-dev/ebb/infra/broker/internal/delivery"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
)

// The names of headers, by the Kafka protocol binding for CloudEvents.
const (
	attributePrefix = "ce_"
	contentType     = "content-type"
)

const structuredType = "application/cloudevents"

// encode returns the event as a record in binary mode. The value of an event without data is empty and not null, since
// null is a tombstone.
func encode(e *ce.Event) (*kgo.Record, error) {
	c := e.Context.(*ce.EventContextV1) // CheckEvent has seen to it
	r := &kgo.Record{Value: e.DataEncoded, Headers: make([]kgo.RecordHeader, 0, 8+len(c.Extensions))}
	if r.Value == nil {
		r.Value = []byte{}
	}
	add := func(name, value string) {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
	add("ce_specversion", "1.0")
	add("ce_id", c.ID)
	add("ce_source", c.Source.String())
	add("ce_type", c.Type)
	if c.Subject != nil {
		add("ce_subject", *c.Subject)
	}
	if c.Time != nil {
		add("ce_time", c.Time.Format(time.RFC3339Nano))
	}
	if c.DataSchema != nil {
		add("ce_dataschema", c.DataSchema.String())
	}
	if c.DataContentType != nil {
		add(contentType, *c.DataContentType)
	}
	for name, value := range c.Extensions {
		text, err := types.Format(value)
		if err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "extension %q of event %q cannot be written", name, c.ID)
		}
		add(attributePrefix+name, text)
	}
	if key := delivery.PartitionKey(e); key != "" {
		r.Key = []byte(key)
	}
	return r, nil
}

// decode returns the event of a record in binary or structured mode, which may be from any producer. Where the event
// has no partitionkey it gets the key of the record.
func decode(r *kgo.Record, limit int) (*ce.Event, error) {
	e, err := parse(r)
	if err != nil {
		return nil, err
	}
	checked, _, err := delivery.CheckEvent(e, limit)
	if err != nil {
		return nil, err
	}
	c := checked.Context.(*ce.EventContextV1)
	if _, ok := c.Extensions["partitionkey"]; !ok && len(r.Key) > 0 && utf8.Valid(r.Key) {
		if c.Extensions == nil {
			c.Extensions = map[string]any{}
		}
		c.Extensions["partitionkey"] = string(r.Key)
		if event.CheckAttributes(checked) != nil { // a key of bytes that no attribute may have
			delete(c.Extensions, "partitionkey")
		}
	}
	return &checked, nil
}

func parse(r *kgo.Record) (ce.Event, error) {
	kind, version := "", ""
	for i := range r.Headers {
		switch h := &r.Headers[i]; {
		case strings.EqualFold(h.Key, contentType):
			kind = string(h.Value)
		case h.Key == "ce_specversion":
			version = string(h.Value)
		}
	}
	media := kind
	if i := strings.IndexByte(media, ';'); i >= 0 {
		media = media[:i]
	}
	media = strings.ToLower(strings.TrimSpace(media))
	if strings.HasPrefix(media, structuredType) {
		if media != ce.ApplicationCloudEventsJSON {
			return ce.Event{}, fmt.Errorf("the event is in the format %q: want %s", media, ce.ApplicationCloudEventsJSON)
		}
		return event.FromJSON(r.Value)
	}
	if version == "" {
		return ce.Event{}, errors.New("it has neither a header ce_specversion nor the content type of an event")
	}
	if version != ce.CloudEventsVersionV1 && version != ce.CloudEventsVersionV03 {
		return ce.Event{}, fmt.Errorf("the event is of CloudEvents %q: want 1.0", version)
	}
	return fromHeaders(r, version, kind)
}

// fromHeaders returns the event of a record in binary mode.
func fromHeaders(r *kgo.Record, version, kind string) (ce.Event, error) {
	e := ce.New(version)
	for i := range r.Headers {
		h := &r.Headers[i]
		name, isAttribute := strings.CutPrefix(h.Key, attributePrefix)
		if !isAttribute {
			continue
		}
		value := string(h.Value)
		if !utf8.ValidString(value) {
			return e, fmt.Errorf("the header %s is not UTF-8", h.Key)
		}
		var err error
		switch name {
		case "specversion", "datacontenttype":
		case "id":
			err = e.Context.SetID(value)
		case "type":
			err = e.Context.SetType(value)
		case "source":
			err = setSource(&e, value)
		case "subject":
			err = e.Context.SetSubject(value)
		case "dataschema", "schemaurl":
			err = setDataSchema(&e, value)
		case "time":
			var at time.Time
			if at, err = time.Parse(time.RFC3339Nano, value); err == nil {
				err = e.Context.SetTime(at)
			}
		default:
			if err = e.Context.SetExtension(name, value); name != strings.ToLower(name) {
				err = errors.New("the name has a capital letter")
			}
		}
		if err != nil {
			return e, fmt.Errorf("the header %s: %w", h.Key, err)
		}
	}
	if kind != "" {
		if err := e.Context.SetDataContentType(kind); err != nil {
			return e, err
		}
	}
	if len(r.Value) > 0 {
		e.DataEncoded = bytes.Clone(r.Value) // a part of a whole fetch
		e.DataBase64 = !isText(kind)
	}
	return e, nil
}

// setSource sets the source; a URI is not changed by being read.
func setSource(e *ce.Event, text string) error {
	c, ok := e.Context.(*ce.EventContextV1)
	if !ok {
		return e.Context.SetSource(text)
	}
	u, err := event.ParseURI(text)
	c.Source = types.URIRef{URL: u}
	return err
}

// setDataSchema sets the schema as setSource sets the source.
func setDataSchema(e *ce.Event, text string) error {
	c, ok := e.Context.(*ce.EventContextV1)
	if !ok {
		return e.Context.SetDataSchema(text)
	}
	return event.SetAttribute(c, "dataschema", text)
}

// isText reports whether data of the content type is JSON or text.
func isText(kind string) bool {
	return kind == "" || strings.HasPrefix(kind, "text/") || strings.Contains(kind, "json") ||
		strings.Contains(kind, "xml")
}
