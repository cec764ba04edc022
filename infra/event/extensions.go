package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	ce "github.com/cloudevents/sdk-go/v2/event"
)

// The extension attributes that the kit sets and reads. ReplayTo addresses an event to one function; Replay has the id
// of the replay that a past event is part of, so that projections apply it and side effects do not happen again.
// ReplayNumber counts how often the archive has sent a dead letter again.
const (
	PartitionKey  = "partitionkey"
	Sequence      = "sequence"
	CorrelationID = "correlationid"
	CausationID   = "causationid"
	TraceParent   = "traceparent"
	TraceState    = "tracestate"
	ReplayTo      = "ebbreplayto"
	Replay        = "ebbreplay"
	ReplayNumber  = "ebbreplaynumber"
)

// Extension returns an extension attribute of an event as text; empty when the event does not have it.
func Extension(e ce.Event, name string) string {
	if e.Context == nil {
		return ""
	}
	var value any
	if c, ok := e.Context.(*ce.EventContextV1); ok {
		value = c.Extensions[name] // Extensions() would copy all of them
	} else {
		value = e.Extensions()[name]
	}
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	case int32:
		return strconv.Itoa(int(v))
	default:
		text, _ := e.Context.GetExtension(name)
		s, _ := text.(string)
		return s
	}
}

// CheckEvent reports why a complete event cannot be published: it is no valid CloudEvent, or its data is not JSON
// although its type says so.
func CheckEvent(e ce.Event) error {
	if err := CheckAttributes(e); err != nil {
		return err
	}
	if e.DataMediaType() == ce.ApplicationJSON && len(e.Data()) > 0 && !json.Valid(e.Data()) {
		return errors.New("the data is not JSON")
	}
	return nil
}

// CheckAttributes returns an error for an event that is not a valid CloudEvent, or that has a text with bytes that are
// not UTF-8 or characters that no attribute may have (CloudEvents 1.0.2, section 3.1). Such a text could not be sent in
// a header field. The data may be any bytes.
func CheckAttributes(e ce.Event) error {
	if err := Valid(e); err != nil {
		return fmt.Errorf("not a valid CloudEvent: %s", strings.TrimSpace(err.Error()))
	}
	c, ok := e.Context.(*ce.EventContextV1)
	if !ok {
		c = e.Context.AsV1()
	}
	for _, a := range [...]struct{ name, text string }{
		{"id", c.ID}, {"type", c.Type}, {"source", c.Source.String()}, {"subject", e.Subject()},
	} {
		if !permitted(a.text) {
			return fmt.Errorf("%s has a character that no attribute may have", a.name)
		}
	}
	if c.Time != nil {
		if err := checkTime(c.Time.Time); err != nil {
			return fmt.Errorf("time: %w", err)
		}
	}
	for name, value := range c.Extensions {
		if text, ok := value.(string); ok && !permitted(text) {
			return fmt.Errorf("%s has a character that no attribute may have", name)
		}
	}
	return nil
}

// checkTime returns an error for a time that RFC 3339 cannot express in UTC, in which it is written: the time of
// another zone may be in the year before or after.
func checkTime(t time.Time) error {
	if year := t.UTC().Year(); year < 0 || year > 9999 {
		return fmt.Errorf("the year %d has no four digits", year)
	}
	return nil
}

// permitted reports whether the text is UTF-8 without control characters and noncharacters.
func permitted(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] >= 0x7f {
			return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool {
				return unicode.IsControl(r) || r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe
			})
		}
	}
	return true
}
