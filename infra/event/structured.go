package event

import (
	"fmt"

	ce "github.com/cloudevents/sdk-go/v2/event"
)

// FromJSON reads one event in CloudEvents' structured JSON format, which may have come from anywhere. It refuses what the
// SDK refuses, and also what the SDK panics at, such as data_base64 that is no string.
func FromJSON(data []byte) (e ce.Event, err error) {
	defer func() {
		if p := recover(); p != nil {
			e, err = ce.Event{}, fmt.Errorf("the JSON is not an event: %v", p)
		}
	}()
	err = e.UnmarshalJSON(data)
	return e, err
}
