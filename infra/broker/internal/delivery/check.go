package delivery

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
)

// CheckEvent returns the event in version 1.0, with its size in bytes, about. It refuses with fault.Invalid what breaks
// the CloudEvents specification or is larger than limit.
func CheckEvent(e ce.Event, limit int) (ce.Event, int, error) {
	if e.Context == nil {
		return e, 0, fault.New(fault.Invalid, "an event without attributes was published")
	}
	c, ok := e.Context.(*ce.EventContextV1)
	if !ok {
		c = e.Context.AsV1()
		e.Context = c
	}
	if err := event.CheckAttributes(e); err != nil {
		return e, 0, fault.Wrap(err, fault.Invalid, "event %q breaks the CloudEvents specification", c.ID)
	}
	if err := checkURIs(c); err != nil {
		return e, 0, fault.Wrap(err, fault.Invalid, "event %q has an attribute that is not a URI", c.ID)
	}
	if err := checkExtensions(c); err != nil {
		return e, 0, err
	}
	size := sizeOf(e, c)
	if size > limit {
		return e, 0, fault.New(fault.Invalid, "event %q has %d bytes, the broker takes %d", c.ID, size, limit)
	}
	e.Context = copyAttributes(c)
	return e, size, nil
}

// CheckEvents returns the events as CheckEvent does, or the error of the first that it refuses.
func CheckEvents(events []ce.Event, limit int) ([]ce.Event, error) {
	checked := make([]ce.Event, len(events))
	for i := range events {
		e, _, err := CheckEvent(events[i], limit)
		if err != nil {
			return nil, err
		}
		checked[i] = e
	}
	return checked, nil
}

// copyAttributes copies the attributes. Publishers promise not to change them, but an event is a pointer inside, and
// one that is used again for the next message would change what waits here.
func copyAttributes(c *ce.EventContextV1) *ce.EventContextV1 {
	d := *c
	d.Extensions = maps.Clone(c.Extensions)
	return &d
}

// checkURIs refuses addresses that would not survive being written and read again.
func checkURIs(c *ce.EventContextV1) error {
	if s := &c.Source; s.Scheme == "" && s.Host == "" && s.Opaque == "" && strings.HasPrefix(s.Path, "/") {
		return nil
	}
	if _, err := url.Parse(c.Source.String()); err != nil {
		return err
	}
	if c.DataSchema != nil {
		_, err := url.Parse(c.DataSchema.String())
		return err
	}
	return nil
}

// contextAttributes may not be used as extensions: they would be two things of one name.
var contextAttributes = []string{
	"id", "source", "type", "datacontenttype", "subject", "time", "specversion", "dataschema", "data",
}

func checkExtensions(c *ce.EventContextV1) error {
	for name, value := range c.Extensions {
		if !lowerAlphanumeric(name) || slices.Contains(contextAttributes, name) {
			return fault.New(fault.Invalid, "event %q has an invalid extension name %q", c.ID, name)
		}
		switch value.(type) {
		case string, int32, bool, []byte, types.URI, types.URIRef, types.Timestamp:
			continue
		}
		if _, err := event.Canonical(value); err != nil {
			return fault.New(fault.Invalid, "extension %q of event %q has a value that CloudEvents does not know: %T, %v",
				name, c.ID, value, err)
		}
	}
	return nil
}

func lowerAlphanumeric(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// sizeOf returns about how many bytes the event takes when it is encoded.
func sizeOf(e ce.Event, c *ce.EventContextV1) int {
	n := 64 + len(e.DataEncoded) + len(c.ID) + len(c.Type) + len(c.Source.Path)
	if c.Subject != nil {
		n += len(*c.Subject)
	}
	for name, value := range c.Extensions {
		n += len(name) + 8
		switch v := value.(type) {
		case string:
			n += len(v)
		case []byte:
			n += len(v)
		}
	}
	return n
}
