package event_test

import (
	"testing"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/ebb-dev/ebb/infra/event"
)

// Valid agrees with the SDK's Validate, for events that pass the quick checks and for those that do not.
func TestValid(t *testing.T) {
	right := func() ce.Event {
		e := ce.New()
		e.SetID("1")
		e.SetSource("/functions/orders")
		e.SetType("com.example.orders.placed.v1")
		e.SetSubject("o")
		e.SetDataSchema("https://example.com/schemas/x")
		return e
	}
	for what, spoil := range map[string]func(*ce.Event){
		"right":                         func(*ce.Event) {},
		"no id":                         func(e *ce.Event) { e.SetID("") },
		"a blank type":                  func(e *ce.Event) { e.SetType(" ") },
		"a subject of a no-break space": func(e *ce.Event) { e.SetSubject("\u00a0") },
		"a subject in another script":   func(e *ce.Event) { e.SetSubject("é") },
		"no source":                     func(e *ce.Event) { e.SetSource("") },
		"an empty subject":              func(e *ce.Event) { e.Context.(*ce.EventContextV1).Subject = new(string) },
		"a relative data schema":        func(e *ce.Event) { e.Context.(*ce.EventContextV1).DataSchema = &types.URI{} },
		"another content type":          func(e *ce.Event) { e.SetDataContentType("text/plain") },
		"version 0.3":                   func(e *ce.Event) { e.Context = e.Context.AsV03() },
	} {
		e := right()
		spoil(&e)
		if got, want := event.Valid(e), e.Validate(); (got == nil) != (want == nil) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
}
