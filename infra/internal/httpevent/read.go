// Package httpevent reads and writes CloudEvents in HTTP messages, by the HTTP protocol binding of CloudEvents 1.0.
//
// It uses the CloudEvents SDK and adds what the SDK omits: the percent-encoding of attributes in header fields (section
// 3.1.3.2), and checks for empty and repeated attributes and for characters that no attribute may have.
package httpevent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Body returns a request's body of at most limit bytes; a larger one is fault.TooLarge.
func Body(w http.ResponseWriter, r *http.Request, limit int) ([]byte, error) {
	tooLarge := fault.New(fault.TooLarge, "a request may have %d bytes at most", limit)
	if r.ContentLength > int64(limit) { // before the client sends the body, if it waits
		return nil, tooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(limit)))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, tooLarge
	case err != nil:
		return nil, fault.Wrap(err, fault.Invalid, "the request ended early")
	}
	return body, nil
}

// Read returns the events of a message in the binary, structured or batched mode: of a request or a response. An
// invalid event is fault.Invalid.
func Read(header http.Header, body []byte) ([]event.Event, error) {
	message := &http.Request{Header: decoded(header), Body: io.NopCloser(bytes.NewReader(body))}
	media, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil && strings.HasPrefix(header.Get("Content-Type"), "application/cloudevents") {
		return nil, fault.New(fault.Invalid, "invalid Content-Type")
	}
	if err := checkMessage(media, header, body); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the CloudEvent does not conform to the specification: %v", err)
	}
	var events []event.Event
	switch media {
	case event.ApplicationCloudEventsBatchJSON:
		message.Header.Set("Content-Type", media)
		events, err = cehttp.NewEventsFromHTTPRequest(message)
	case event.ApplicationCloudEventsJSON:
		message.Header.Set("Content-Type", media)
		events, err = one(message)
	default:
		if header.Get("Ce-Specversion") == "" {
			return nil, fault.New(fault.Invalid, "the request is not a CloudEvent in a mode of the HTTP binding").
				WithStatus(http.StatusUnsupportedMediaType)
		}
		events, err = one(message)
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "invalid CloudEvent: %.200v", err)
	}
	for i := range events {
		if err := check(&events[i]); err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "the CloudEvent does not conform to the specification: %.200v", err)
		}
	}
	return events, nil
}

// notEmpty lists the optional attributes that must not be empty. The SDK drops an empty one.
var notEmpty = [...]string{"subject", "dataschema", "datacontenttype", "time"}

// checkMessage returns an error for what the SDK does not detect: empty attributes, and data together with data_base64.
// Invalid JSON is left to the SDK.
func checkMessage(media string, header http.Header, body []byte) error {
	if !strings.HasPrefix(media, "application/cloudevents") {
		for _, name := range notEmpty {
			if values, ok := header[http.CanonicalHeaderKey("Ce-"+name)]; ok && strings.Join(values, "") == "" {
				return fmt.Errorf("%s is empty", name)
			}
		}
		return nil
	}
	var batch []map[string]json.RawMessage
	if json.Unmarshal(body, &batch) != nil {
		batch = make([]map[string]json.RawMessage, 1)
		_ = json.Unmarshal(body, &batch[0])
	}
	for _, members := range batch {
		for _, name := range notEmpty {
			if string(members[name]) == `""` {
				return fmt.Errorf("%s is empty", name)
			}
		}
		if members["data"] != nil && members["data_base64"] != nil {
			return errors.New("it has both data and data_base64")
		}
	}
	return nil
}

func one(message *http.Request) ([]event.Event, error) {
	e, err := cehttp.NewEventFromHTTPRequest(message)
	if err != nil {
		return nil, err
	}
	return []event.Event{*e}, nil
}

// decoded returns the header with percent-decoded attributes.
func decoded(header http.Header) http.Header {
	h := header.Clone()
	for name, values := range h {
		if !strings.HasPrefix(name, "Ce-") {
			continue
		}
		for i, v := range values {
			if text, err := url.PathUnescape(v); err == nil {
				values[i] = text
			}
		}
	}
	return h
}

// check returns an error for what the SDK does not detect: another version than 1.0, empty and repeated attributes, and
// characters that the specification forbids, which could not be sent in header fields.
func check(e *event.Event) error {
	if e.Context == nil || e.SpecVersion() != event.CloudEventsVersionV1 {
		return errors.New("only CloudEvents 1.0 are accepted")
	}
	if err := e.Validate(); err != nil {
		return err
	}
	c := e.Context.AsV1()
	texts := map[string]string{"id": c.ID, "type": c.Type, "source": c.Source.String()}
	if c.Subject != nil {
		texts["subject"] = *c.Subject
	}
	for name, value := range c.Extensions {
		if text, ok := value.(string); ok {
			texts[name] = text
		}
	}
	for name, text := range texts {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, forbidden) {
			return fmt.Errorf("%s has a character that no attribute may have", name)
		}
	}
	return nil
}

// forbidden reports whether r is a control character or a noncharacter.
func forbidden(r rune) bool {
	return unicode.IsControl(r) || r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe
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
