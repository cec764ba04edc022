// Package httpevent reads and writes CloudEvents as HTTP carries them, by the HTTP protocol binding of CloudEvents 1.0.
//
// It rests on the CloudEvents SDK and adds what that leaves out: the percent-encoding of attributes in header
// fields (section 3.1.3.2), empty and repeated attributes, characters that no attribute may hold.
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

// Body reads a request's body of at most so many bytes; what is larger is fault.TooLarge.
func Body(w http.ResponseWriter, r *http.Request, most int) ([]byte, error) {
	tooLarge := fault.New(fault.TooLarge, "a request holds %d bytes at most", most)
	if r.ContentLength > int64(most) { // told before the body is sent, if the client waits
		return nil, tooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(most)))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, tooLarge
	case err != nil:
		return nil, fault.Wrap(err, fault.Invalid, "the request is cut short")
	}
	return body, nil
}

// Read reads the events of a message in any mode, binary, structured or batched: of a request, or of an answer.
// What is wrong with them is fault.Invalid.
func Read(header http.Header, body []byte) ([]event.Event, error) {
	message := &http.Request{Header: decoded(header), Body: io.NopCloser(bytes.NewReader(body))}
	media, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil && strings.HasPrefix(header.Get("Content-Type"), "application/cloudevents") {
		return nil, fault.New(fault.Invalid, "the content type cannot be read")
	}
	if err := complete(media, header, body); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the CloudEvent breaks the specification: %v", err)
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
			return nil, fault.New(fault.Invalid, "this is no CloudEvent in any mode of the HTTP binding").WithStatus(http.StatusUnsupportedMediaType)
		}
		events, err = one(message)
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "the CloudEvent cannot be read: %.200v", err)
	}
	for i := range events {
		if err := check(&events[i]); err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "the CloudEvent breaks the specification: %.200v", err)
		}
	}
	return events, nil
}

// filled are the optional attributes that must not be empty. The SDK drops one that is.
var filled = [...]string{"subject", "dataschema", "datacontenttype", "time"}

// complete refuses what the SDK does not see: attributes that are there but empty, and data that is there twice.
// What is no JSON is left to the SDK.
func complete(media string, header http.Header, body []byte) error {
	if !strings.HasPrefix(media, "application/cloudevents") {
		for _, name := range filled {
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
		for _, name := range filled {
			if string(members[name]) == `""` {
				return fmt.Errorf("%s is empty", name)
			}
		}
		if members["data"] != nil && members["data_base64"] != nil {
			return errors.New("there are both data and data_base64")
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

// decoded are the header fields with the attributes as they were before they became percent-encoded.
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

// check is what the SDK leaves out: events of version 1.0 only, no empty and no repeated attributes, and no characters
// that the specification forbids, which could not be delivered in header fields.
func check(e *event.Event) error {
	if e.Context == nil || e.SpecVersion() != event.CloudEventsVersionV1 {
		return errors.New("only CloudEvents 1.0 are taken")
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
			return fmt.Errorf("%s holds a character that no attribute may hold", name)
		}
	}
	return nil
}

// forbidden are the control characters and the noncharacters.
func forbidden(r rune) bool {
	return unicode.IsControl(r) || r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe
}

// RetryAfter reads the header field of that name: seconds, or a date. What it cannot read is 0.
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
