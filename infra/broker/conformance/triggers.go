package conformance

import (
	"context"
	"errors"
	"fmt"
)

// Triggers makes triggers at the broker. Its methods may be called concurrently.
type Triggers interface {
	// Create makes a trigger and returns its id once it receives newly posted events. The error is a Refused when
	// the broker refuses the trigger because of its content.
	Create(ctx context.Context, t Trigger) (id string, err error)

	// Delete removes the trigger.
	Delete(ctx context.Context, id string) error

	// MissingFeatures returns the features that brokers behind this driver lack by default, and why.
	MissingFeatures() map[Feature]string
}

// Trigger describes a trigger that a case asks for. Some cases ask for an invalid one on purpose.
type Trigger struct {
	Sink       string            // the URL that receives the deliveries
	Attributes map[string]string // Knative's older filter: these attributes must have exactly these values
	Filters    []Filter          // filters of the Subscriptions API; an event must pass all of them
	Delivery   *Delivery         // nil: the broker's defaults
}

// Filter is one filter in the JSON of the Subscriptions API: a dialect and its argument.
type Filter map[string]any

// Delivery is Knative's DeliverySpec. Durations are in ISO 8601.
type Delivery struct {
	Retry          *int         `json:"retry,omitempty"`
	BackoffPolicy  string       `json:"backoffPolicy,omitempty"`
	BackoffDelay   string       `json:"backoffDelay,omitempty"`
	Timeout        string       `json:"timeout,omitempty"`
	RetryAfterMax  string       `json:"retryAfterMax,omitempty"`
	DeadLetterSink *Destination `json:"deadLetterSink,omitempty"`
}

// Destination holds the URL of a sink.
type Destination struct {
	URI string `json:"uri"`
}

// Refused is the error for a trigger that the broker refuses because of its content.
type Refused struct {
	Status  int
	Message string
}

// Error returns the broker's status and message.
func (r Refused) Error() string { return fmt.Sprintf("%d %s", r.Status, r.Message) }

func refused(err error) bool {
	var r Refused
	return errors.As(err, &r)
}
