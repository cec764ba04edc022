// Package fault has the error type of the kit and the kinds that an error can have. The kind decides the status that an
// HTTP caller gets and the status that an event delivery gets, and so whether the broker tries again.
//
//	if amount > balance {
//		return fault.New(fault.Invalid, "the balance is %d", balance) // the caller sees this text
//	}
//	if err := bank.Pay(ctx, amount); err != nil {
//		return fault.Wrap(err, fault.Unavailable, "the bank does not answer") // and not that of the cause
//	}
//
// The statuses of events follow the delivery table of Knative Eventing's data-plane specification: 404, 408, 409, 429
// and 5xx are tried again, every other 4xx is final.
package fault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Kind is a class of failures. The zero Kind is Internal, so that an error without a kind is treated as a defect of the
// function.
type Kind uint8

const (
	Internal        Kind = iota // a defect, or an error without a kind
	Invalid                     // the input is wrong and stays wrong
	Unauthenticated             // the caller showed no valid credentials
	Denied                      // the caller is known, but not allowed
	NotFound                    // it does not exist, finally
	NotYet                      // it does not exist yet: out of order, may still come
	Conflict                    // lost a race, or contradicts the current state
	Exhausted                   // over a rate limit or a quota
	Unavailable                 // a dependency does not respond
	Timeout                     // a deadline passed
	TooLarge                    // the body is over the limit
)

var kinds = [...]struct {
	name        string
	http, event int
}{
	Internal:        {"internal", http.StatusInternalServerError, http.StatusInternalServerError},
	Invalid:         {"invalid", http.StatusUnprocessableEntity, http.StatusUnprocessableEntity},
	Unauthenticated: {"unauthenticated", http.StatusUnauthorized, http.StatusUnauthorized},
	Denied:          {"denied", http.StatusForbidden, http.StatusForbidden},
	NotFound:        {"not found", http.StatusNotFound, http.StatusUnprocessableEntity},
	NotYet:          {"not yet", http.StatusNotFound, http.StatusServiceUnavailable},
	Conflict:        {"conflict", http.StatusConflict, http.StatusConflict},
	Exhausted:       {"exhausted", http.StatusTooManyRequests, http.StatusTooManyRequests},
	Unavailable:     {"unavailable", http.StatusServiceUnavailable, http.StatusServiceUnavailable},
	Timeout:         {"timeout", http.StatusGatewayTimeout, http.StatusServiceUnavailable},
	TooLarge:        {"too large", http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity},
}

// String returns the kind in lower-case words, as metrics and logs have it.
func (k Kind) String() string { return kinds[k.known()].name }

// HTTPStatus returns the status of the response to an HTTP request.
func (k Kind) HTTPStatus() int { return kinds[k.known()].http }

// EventStatus returns the status of the response to an event delivery. NotFound is 422 there and not 404, and NotYet
// 503 and not 425, because a broker retries 404 and 503 and does not retry 422 and 425.
func (k Kind) EventStatus() int { return kinds[k.known()].event }

// Retryable reports whether a broker that gets EventStatus tries again.
func (k Kind) Retryable() bool { return RetryableStatus(k.EventStatus()) }

func (k Kind) known() Kind {
	if int(k) >= len(kinds) {
		return Internal
	}
	return k
}

// RetryableStatus reports whether Knative Eventing retries a delivery after a response with the HTTP status.
func RetryableStatus(status int) bool {
	switch status {
	case http.StatusNotFound, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return true
	}
	return status >= 500 || status < 200
}

// Detail is an error about one place in an input, in the terms of RFC 9457 section 3. It does not have the value, which
// may be a secret.
type Detail struct {
	Location string `json:"location,omitempty"`
	Message  string `json:"message"`
}

// Error is a failure with its kind. Message is safe to show to the caller; Cause is for operators only and leaves the
// process in logs only.
type Error struct {
	Kind       Kind
	Message    string
	Cause      error
	Details    []Detail
	RetryAfter time.Duration // how long the caller should wait; 0: its own choice
	Status     int           // of the HTTP response, where that of the kind is not exact enough; 0: that of the kind
}

// New returns an error of a kind with a message that is safe to show to the caller.
func New(kind Kind, format string, args ...any) *Error {
	if len(args) == 0 {
		return &Error{Kind: kind, Message: format}
	}
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Wrap returns an error of a kind with a cause. The message is safe to show to the caller, who does not see the cause.
func Wrap(cause error, kind Kind, format string, args ...any) *Error {
	e := New(kind, format, args...)
	e.Cause = cause
	return e
}

// With returns a copy of e that also carries the details.
func (e *Error) With(details ...Detail) *Error {
	c := *e
	c.Details = append(append([]Detail(nil), e.Details...), details...)
	return &c
}

// After returns a copy of e that asks the caller to wait for d before trying again.
func (e *Error) After(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// WithStatus returns a copy of e that HTTP callers get with this status, such as 412 or 428 for an Invalid.
func (e *Error) WithStatus(status int) *Error {
	c := *e
	c.Status = status
	return &c
}

// Error returns the message and the cause, for operators.
func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Cause }

// KindOf returns the kind of the outermost Error in err's chain. A passed context deadline is Timeout, a cancelled
// context Unavailable, anything else Internal.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.DeadlineExceeded):
		return Timeout
	case errors.Is(err, context.Canceled):
		return Unavailable
	}
	return Internal
}

// Is reports whether err is a failure of the kind. A nil error has no kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// opaque is what callers see of an Internal, whose message is for operators.
const opaque = "something went wrong on our side; it has been logged"

// Public returns what may be shown to the caller: the message of the outermost Error, or a fixed sentence when the
// failure is Internal.
func Public(err error) string {
	var e *Error
	if errors.As(err, &e) && e.Kind != Internal {
		return e.Message
	}
	switch KindOf(err) {
	case Timeout:
		return "it took too long"
	case Unavailable:
		return "not available just now"
	}
	return opaque
}

// HTTPStatus returns the status of the response to an HTTP request that failed with err.
func HTTPStatus(err error) int {
	var e *Error
	if errors.As(err, &e) && e.Status != 0 {
		return e.Status
	}
	return KindOf(err).HTTPStatus()
}

// DetailsOf returns the details of the outermost Error in err's chain.
func DetailsOf(err error) []Detail {
	var e *Error
	if errors.As(err, &e) {
		return e.Details
	}
	return nil
}

// RetryAfter returns how long err asks the caller to wait; 0 when it does not ask.
func RetryAfter(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}
