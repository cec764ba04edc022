// Package httpevent reads and writes CloudEvents in HTTP messages, by the HTTP protocol binding of CloudEvents 1.0.
//
// It writes with the CloudEvents SDK and adds the percent-encoding of attributes in header fields (section 3.1.3.2),
// which the SDK omits. It reads by itself, because the SDK accepts what the specification refuses and changes what it
// accepts: it cuts numbers, rewrites URIs, and drops empty and repeated attributes.
package httpevent

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Body returns a request's body of at most limit bytes, unpacked as Unpack does; a larger one is fault.TooLarge.
func Body(w http.ResponseWriter, r *http.Request, limit int) ([]byte, error) {
	if r.ContentLength > int64(limit) { // before the client sends the body, if it waits
		return nil, tooLarge(limit)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(limit)))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, tooLarge(limit)
	case err != nil:
		return nil, fault.Wrap(err, fault.Invalid, "the request ended early")
	}
	body, err = Unpack(r.Header, body, limit)
	if errors.Is(err, errCoding) {
		w.Header().Set("Accept-Encoding", "gzip") // RFC 9110, section 15.5.16
	}
	return body, err
}

func tooLarge(limit int) error {
	return fault.New(fault.TooLarge, "a request may have %d bytes at most", limit)
}

var errCoding = fault.New(fault.Invalid, "unknown Content-Encoding: use gzip or none").
	WithStatus(http.StatusUnsupportedMediaType)

// Unpack returns the content of a message without the coding that its Content-Encoding names: gzip or none. Another one
// is fault.Invalid with status 415, content of more than limit bytes fault.TooLarge.
func Unpack(header http.Header, body []byte, limit int) ([]byte, error) {
	switch strings.ToLower(strings.Join(header.Values("Content-Encoding"), ",")) {
	case "", "identity":
		return body, nil
	case "gzip", "x-gzip":
	default:
		return nil, errCoding
	}
	if len(body) == 0 {
		return body, nil // RFC 9110 allows a coding of nothing
	}
	packed, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the body is not gzip, as its Content-Encoding says")
	}
	content, err := io.ReadAll(io.LimitReader(packed, int64(limit)+1))
	switch {
	case len(content) > limit:
		return nil, tooLarge(limit)
	case err != nil:
		return nil, fault.Wrap(err, fault.Invalid, "the body is not gzip, as its Content-Encoding says")
	}
	return content, nil
}

// Read returns the events of a message in the binary, structured or batched mode: of a request or a response. An
// invalid event is fault.Invalid. The data of an event in the binary mode is the body itself.
func Read(header http.Header, body []byte) ([]ce.Event, error) {
	media, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil && strings.HasPrefix(header.Get("Content-Type"), "application/cloudevents") {
		return nil, fault.New(fault.Invalid, "invalid Content-Type")
	}
	var events []ce.Event
	switch {
	case media == ce.ApplicationCloudEventsBatchJSON:
		events, err = batch(body)
	case media == ce.ApplicationCloudEventsJSON:
		events, err = one(event.FromJSON(body))
	case header.Get("Ce-Specversion") == "":
		return nil, fault.New(fault.Invalid, "the request is not a CloudEvent in a mode of the HTTP binding").
			WithStatus(http.StatusUnsupportedMediaType)
	default:
		events, err = one(binary(header, body))
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "invalid CloudEvent: %.200v", err)
	}
	for i := range events {
		if err := check(events[i]); err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "the CloudEvent does not conform to the specification: %.200v", err)
		}
	}
	return events, nil
}

func one(e ce.Event, err error) ([]ce.Event, error) { return []ce.Event{e}, err }

func batch(body []byte) ([]ce.Event, error) {
	var texts []json.RawMessage
	if err := json.Unmarshal(body, &texts); err != nil || texts == nil {
		return nil, errors.New("a batch is a JSON array of events")
	}
	events := make([]ce.Event, len(texts))
	for i, text := range texts {
		var err error
		if events[i], err = event.FromJSON(text); err != nil {
			return nil, err
		}
	}
	return events, nil
}

// attributes are those of CloudEvents 1.0 that a header field ce-NAME may have.
var attributes = []string{"id", "source", "type", "subject", "time", "dataschema"}

// binary returns the event of a message in the binary mode.
func binary(header http.Header, body []byte) (ce.Event, error) {
	c := &ce.EventContextV1{}
	e := ce.Event{Context: c}
	for field, values := range header {
		name, ok := strings.CutPrefix(field, "Ce-")
		if !ok {
			continue
		}
		name = strings.ToLower(name)
		if len(values) > 1 {
			return e, fmt.Errorf("%.50s comes %d times", name, len(values))
		}
		if err := set(c, name, decode(values[0])); err != nil {
			return e, fmt.Errorf("%.50s: %w", name, err)
		}
	}
	if contentType := header.Get("Content-Type"); contentType != "" {
		c.DataContentType = &contentType
	}
	if len(body) > 0 {
		e.DataEncoded = body
	}
	return e, nil
}

func set(c *ce.EventContextV1, name, value string) error {
	switch {
	case name == "specversion":
		if value != ce.CloudEventsVersionV1 {
			return errors.New("only CloudEvents 1.0 are accepted")
		}
		return nil
	case name == "data":
		return errors.New("data is not an attribute")
	case slices.Contains(attributes, name):
		return event.SetAttribute(c, name, value)
	}
	return c.SetExtension(name, value)
}

// decode returns the value of an attribute in a header field: first without the quotes of a quoted string (RFC 9110,
// section 5.6.4), then percent-decoded, once each. What is malformed in this sense stays unchanged.
func decode(value string) string {
	if text, ok := unquoted(value); ok {
		value = text
	}
	if text, err := url.PathUnescape(value); err == nil {
		value = text
	}
	return value
}

// unquoted returns the text of a quoted string.
func unquoted(value string) (text string, ok bool) {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return "", false
	}
	value = value[1 : len(value)-1]
	if !strings.ContainsAny(value, `\"`) {
		return value, true
	}
	var b strings.Builder
	for i := 0; i < len(value); i++ {
		switch value[i] {
		case '"':
			return "", false
		case '\\':
			if i++; i == len(value) {
				return "", false
			}
		}
		b.WriteByte(value[i])
	}
	return b.String(), true
}

// check returns an error for an event of another version than 1.0, or with attributes that the specification forbids.
func check(e ce.Event) error {
	if e.Context == nil || e.SpecVersion() != ce.CloudEventsVersionV1 {
		return errors.New("only CloudEvents 1.0 are accepted")
	}
	return event.CheckAttributes(e)
}

// RetryAfter returns the delay of a Retry-After field, which has seconds or a date; 0 when it is invalid.
func RetryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0)
	}
	var seconds uint32
	if _, err := fmt.Sscanf(value, "%d", &seconds); err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
