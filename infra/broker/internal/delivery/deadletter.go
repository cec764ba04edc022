package delivery

import (
	"maps"
	"strings"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/ebb-dev/ebb/infra/broker"
)

// PartitionKey returns the key whose events keep their order; empty: the event asks for no order.
func PartitionKey(e *event.Event) string {
	c, ok := e.Context.(*event.EventContextV1)
	if !ok {
		return ""
	}
	switch key := c.Extensions["partitionkey"].(type) {
	case nil:
		return ""
	case string:
		return key
	default:
		text, _ := types.Format(key)
		return text
	}
}

// maxErrorData bounds knativeerrordata, in bytes.
const maxErrorData = 1024

// deadLetter returns the event with the extensions that say how its last attempt failed.
func (t *Trigger) deadLetter(e event.Event, r broker.Result) event.Event {
	dest := t.decl.Subscriber
	if dest == "" {
		dest = t.decl.Name
	}
	more := map[string]any{broker.ErrorDest: dest, broker.ErrorCode: int32(r.Status)}
	if data := errorData(r.Message); data != "" {
		more[broker.ErrorData] = data
	}
	return withExtensions(e, more)
}

// errorData returns the beginning of a message as the value of an attribute, which holds no control characters.
func errorData(s string) string {
	if len(s) > maxErrorData {
		s = s[:maxErrorData]
		for len(s) > 0 && !utf8.ValidString(s[max(0, len(s)-utf8.UTFMax):]) && !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r <= 0x9f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "")))
}

// withExtensions returns a copy of the event with further extensions; the event does not change.
func withExtensions(e event.Event, more map[string]any) event.Event {
	c := *e.Context.AsV1()
	c.Extensions = maps.Clone(c.Extensions)
	if c.Extensions == nil {
		c.Extensions = make(map[string]any, len(more))
	}
	maps.Copy(c.Extensions, more)
	e.Context = &c
	return e
}
