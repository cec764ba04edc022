package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	ce "github.com/cloudevents/sdk-go/v2/event"
)

// The extension attributes that the kit sets and reads. ReplayTo addresses an event to one function; Replay has the id
// of the replay that a past event is part of, so that projections apply it and side effects do not happen again.
const (
	PartitionKey  = "partitionkey"
	Sequence      = "sequence"
	CorrelationID = "correlationid"
	CausationID   = "causationid"
	TraceParent   = "traceparent"
	ReplayTo      = "ebbreplayto"
	Replay        = "ebbreplay"
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
	if err := Valid(e); err != nil {
		return fmt.Errorf("not a valid CloudEvent: %s", strings.TrimSpace(err.Error()))
	}
	if e.DataMediaType() == ce.ApplicationJSON && len(e.Data()) > 0 && !json.Valid(e.Data()) {
		return errors.New("the data is not JSON")
	}
	return nil
}
