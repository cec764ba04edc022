package front

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
	"github.com/ebb-dev/ebb/infra/function"
)

// ingress takes events.
func (f *Front) ingress(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
	case http.MethodOptions:
		w.Header().Set("Allow", "OPTIONS, POST")
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		w.Header().Set("Allow", "OPTIONS, POST")
		function.WriteProblem(w, r, fault.New(fault.Invalid, "events are posted").WithStatus(http.StatusMethodNotAllowed))
		return
	}
	events, err := f.read(w, r)
	if err == nil {
		err = f.broker.Publish(r.Context(), events...)
	}
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// refuse answers with a problem. What is wrong with an event is 400, as the broker's specification says.
func (f *Front) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var e *fault.Error
	if errors.As(err, &e) && e.Kind == fault.Invalid && e.Status == 0 {
		err = e.WithStatus(http.StatusBadRequest)
	}
	switch fault.KindOf(err) {
	case fault.Internal, fault.Unavailable, fault.Timeout:
		f.cfg.Logger.Warn("a request failed", "error", err)
	}
	function.WriteProblem(w, r, err)
}

// read is the events of a request.
func (f *Front) read(w http.ResponseWriter, r *http.Request) ([]event.Event, error) {
	if r.ContentLength > int64(f.cfg.MaxBody) { // told before the body is sent, if the client waits
		return nil, f.tooLarge()
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(f.cfg.MaxBody)))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, f.tooLarge()
	case err != nil:
		return nil, fault.Wrap(err, fault.Invalid, "the request is cut short")
	}
	return parse(r.Header, body)
}

func (f *Front) tooLarge() error {
	return fault.New(fault.TooLarge, "a request holds %d bytes at most", f.cfg.MaxBody)
}

// parse reads the events of a message in any mode: of a request, or of an answer.
func parse(header http.Header, body []byte) ([]event.Event, error) {
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

// encode writes a value as the HTTP binding asks for it in header fields.
func encode(s string) string {
	if !strings.ContainsFunc(s, special) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; special(rune(c)) || c >= utf8.RuneSelf {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func special(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' || r == '%' }

// retryAfter reads the header field: seconds, or a date.
func retryAfter(value string, now time.Time) time.Duration {
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
