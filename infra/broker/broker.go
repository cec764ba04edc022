// Package broker is the port to what carries CloudEvents between functions.
//
// Its semantics are those of Knative Eventing's data-plane specification,
// wherever it runs: a trigger is a durable subscription with filters, a retry
// policy, a timeout and dead letters, and hands each event to its subscriber at
// least once. Every driver passes the suite in brokertest.
package broker

import (
	"context"
	"math"
	"net/http"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Publisher publishes events. Publish returns nil when all of them are as durable as the
// driver's documentation promises; on an error any of them may have been taken.
// The order of events with the same partitionkey is kept. May be called concurrently;
// the events must not be changed afterwards. An event that breaks the CloudEvents
// specification, or is over the driver's size, is fault.Invalid and nothing is taken.
type Publisher interface {
	Publish(ctx context.Context, events ...event.Event) error
}

// Flusher is a Publisher whose Publish may return when the events survive the death of the process, but not yet a power
// cut. A publisher that keeps what it has published until it is durable, and publishes it again when it finds it after
// a start, loses nothing by either. The methods may be called concurrently.
type Flusher interface {
	Publisher

	// Offset returns one that all events have reached whose Publish has returned.
	Offset() uint64

	// DurableOffset returns the offset up to which everything survives a power cut. It only grows.
	DurableOffset() uint64

	// Flush returns when everything survives a power cut whose Publish had returned before.
	Flush(ctx context.Context) error
}

// Limiter is a Publisher that takes events up to a size only. The kit refuses to commit a change whose events are
// larger.
type Limiter interface {
	// MaxEvent returns about how many bytes the largest event has: its data and its attributes.
	MaxEvent() int
}

// Broker takes events and hands them to triggers.
type Broker interface {
	Publisher

	// Subscribe makes the trigger durable under its name and hands its events to the
	// handler until ctx ends, the subscription is closed or the broker is. A trigger that
	// was known before goes on where it stopped; a new one begins with the next event that is
	// published after Subscribe has returned. Two subscriptions of one name share the events.
	Subscribe(ctx context.Context, t Trigger, h Handler) (Subscription, error)

	// Close stops handing out, waits for handlers that run (at most until ctx ends) and releases everything.
	Close(ctx context.Context) error
}

// Subscription is a trigger that is being served.
type Subscription interface {
	// Close stops handing out and waits for handlers that run. The trigger stays
	// known, and keeps its cursor or its queue, so that events wait for the next Subscribe.
	Close() error
}

// Handler takes a batch of events of one trigger and answers each, in order.
// The slice it returns is as long as the batch. Events of one partition key come in order and
// a later one never comes while an earlier one is unfinished, unless both are in the same
// batch. The events are shared: a handler changes none of them.
type Handler func(ctx context.Context, batch []event.Event) []Result

// MaxBatchBytes is about how many bytes of data the events of one batch have at most: a batch that has reached it gets
// no further event, so that it fits into one unit of work of a store with a limit, and into memory.
const MaxBatchBytes = 1 << 20

// Result answers one delivery, in HTTP's terms, as Knative's delivery does.
type Result struct {
	Status     int           // 2xx: done; others as the specification's retry table says; 0: no answer, tried again
	RetryAfter time.Duration // with 429 and 503: do not try again sooner
	Message    string        // why it failed; goes into knativeerrordata of a dead letter
	Reply      *event.Event  // with 2xx: an event to publish in answer
	Waits      bool          // something else has to come first; with 503
	Skipped    bool          // not tried, as an earlier event of its key failed or the time was up; no attempt
}

// OK reports whether the delivery succeeded.
func (r Result) OK() bool { return r.Status >= 200 && r.Status < 300 }

// ResultOf returns the answer to a delivery that ended with err: its kind decides, as package fault says; 200 for nil.
func ResultOf(err error) Result {
	if err == nil {
		return Result{Status: http.StatusOK}
	}
	kind := fault.KindOf(err)
	return Result{
		Status: kind.EventStatus(), RetryAfter: fault.RetryAfter(err), Message: fault.Public(err),
		Waits: kind == fault.NotYet,
	}
}

// Trigger declares a durable subscription.
type Trigger struct {
	Name        string   // unique within the broker, a DNS label
	Subscriber  string   // the value of knativeerrordest when a delivery fails
	Filters     []Filter // all must pass; none: every event
	Delivery    Delivery
	Batch       int // the most events in one call of the handler; 0 or 1: one; see MaxBatchBytes
	Concurrency int // how many calls of the handler may run at once; 0: one

	// MinBatchInterval is the least time between the beginnings of two calls of the handler, unless a batch is full; 0:
	// none. It makes fewer and larger batches for a handler that may be late. The first event after a pause never waits.
	MinBatchInterval time.Duration

	Rate float64 // how many events a second are handed out at most, on average; 0: no bound
}

// Delivery is how a trigger's events are tried, in the terms of Knative's DeliverySpec. The zero Delivery never retries
// and drops what fails, which is what Knative's does; DefaultDelivery is what Ebb's triggers have.
type Delivery struct {
	Retry         int           // further attempts after the first
	BackoffPolicy BackoffPolicy // Exponential unless said otherwise
	BackoffDelay  time.Duration // linear: delay × attempt; exponential: delay × 2^attempt
	BackoffMax    time.Duration // no wait is longer; 0: no bound
	Timeout       time.Duration // for one attempt; 0: no bound
	// Patience is how long an event may fail for reasons that lie outside of it before that counts as an attempt; see
	// package breaker. A trigger with patience is paused while its function is away. 0: every answer counts.
	Patience time.Duration
	// DeadLetter takes what could not be delivered, with the extensions knativeerrordest, knativeerrorcode and
	// knativeerrordata. It is tried, with backoff, until it answers 2xx. Nil: what could not be delivered is dropped.
	DeadLetter Handler `json:"-"`
}

// BackoffPolicy says how the wait grows from attempt to attempt.
type BackoffPolicy string

// The policies of Knative's DeliverySpec.
const (
	Linear      BackoffPolicy = "linear"
	Exponential BackoffPolicy = "exponential"
)

// DefaultDelivery is the policy of a trigger that has no other: 10 further attempts over about a minute and a half, of
// which only those count that failed because of the event.
var DefaultDelivery = Delivery{
	Retry:         10,
	BackoffPolicy: Exponential,
	BackoffDelay:  50 * time.Millisecond,
	BackoffMax:    30 * time.Second,
	Timeout:       30 * time.Second,
	Patience:      time.Hour,
}

// Backoff returns how long to wait before retry n; the first one is 1.
func (d Delivery) Backoff(n int) time.Duration {
	factor := int64(n)
	if d.BackoffPolicy != Linear {
		factor = 1 << min(n, 30)
	}
	most := d.BackoffMax
	if most <= 0 {
		most = math.MaxInt64
	}
	if factor > 0 && d.BackoffDelay > most/time.Duration(factor) { // the product may be larger than a duration
		return most
	}
	return d.BackoffDelay * time.Duration(factor)
}

// Filter is one expression of Knative's Subscriptions API. Exactly one field is set.
type Filter struct {
	Exact  map[string]string `json:"exact,omitempty"`
	Prefix map[string]string `json:"prefix,omitempty"`
	Suffix map[string]string `json:"suffix,omitempty"`
	All    []Filter          `json:"all,omitempty"`
	Any    []Filter          `json:"any,omitempty"`
	Not    *Filter           `json:"not,omitempty"`
	CESQL  string            `json:"cesql,omitempty"`
}

// The extensions that a dead letter carries, by Knative's data-plane specification.
const (
	ErrorDest = "knativeerrordest" // the subscriber that did not take it
	ErrorCode = "knativeerrorcode" // its last HTTP status
	ErrorData = "knativeerrordata" // the beginning of its last answer
)
