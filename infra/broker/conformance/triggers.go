package conformance

import (
	"context"
	"errors"
	"fmt"
)

// Triggers is the port through which triggers are made. Its methods may be called concurrently.
type Triggers interface {
	// Create makes a trigger, and returns its id when events that are posted from now on reach it. The error is
	// a Refused when the trigger itself is what the broker does not want.
	Create(ctx context.Context, t Trigger) (id string, err error)

	// Delete takes the trigger away.
	Delete(ctx context.Context, id string) error

	// Lacks are the capabilities that brokers behind this driver lack unless told otherwise, and why.
	Lacks() map[Capability]string
}

// Trigger is what a case asks of the broker. It may be wrong on purpose.
type Trigger struct {
	Sink       string            // where deliveries go
	Attributes map[string]string // Knative's older filter: these attributes have exactly these values
	Filters    []Filter          // of the Subscriptions API; all must pass
	Delivery   *Delivery         // nil: what the broker does by default
}

// Filter is one filter in the JSON of the Subscriptions API: a dialect and its argument.
type Filter map[string]any

// Delivery is Knative's DeliverySpec: durations are in ISO 8601.
type Delivery struct {
	Retry          *int         `json:"retry,omitempty"`
	BackoffPolicy  string       `json:"backoffPolicy,omitempty"`
	BackoffDelay   string       `json:"backoffDelay,omitempty"`
	Timeout        string       `json:"timeout,omitempty"`
	RetryAfterMax  string       `json:"retryAfterMax,omitempty"`
	DeadLetterSink *Destination `json:"deadLetterSink,omitempty"`
}

// Destination is where something is delivered to.
type Destination struct {
	URI string `json:"uri"`
}

// Refused says that the broker does not want a trigger because of what the trigger is.
type Refused struct {
	Status  int
	Message string
}

// Error is what the broker answered.
func (r Refused) Error() string { return fmt.Sprintf("%d %s", r.Status, r.Message) }

func refused(err error) bool {
	var r Refused
	return errors.As(err, &r)
}
