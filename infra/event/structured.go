package event

import (
	"fmt"

	ce "github.com/cloudevents/sdk-go/v2/event"
)

// FromJSON decodes one event in CloudEvents' structured JSON format, which may be from an untrusted sender. It returns
// an error where the SDK does, and also where the SDK panics, such as at a data_base64 that is not a string.
func FromJSON(data []byte) (e ce.Event, err error) {
	defer func() {
		if p := recover(); p != nil {
			e, err = ce.Event{}, fmt.Errorf("the JSON is not an event: %v", p)
		}
	}()
	err = e.UnmarshalJSON(data)
	return e, err
}
