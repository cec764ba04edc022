// Package fault has the one error type of Ebb and the handful of kinds an
// error can be of. The kind decides what everyone does next: what an HTTP
// caller sees, what an event handler answers, and so what the broker does.
//
// The event side follows the delivery table of Knative Eventing's data-plane
// specification: 404, 408, 409, 429 and 5xx are tried again, every other 4xx is final.
package fault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Kind says what sort of failure an error is. The zero Kind is Internal, so that
// whatever nobody classified is treated as a defect of ours.
type Kind uint8

const (
	Internal        Kind = iota // a defect, or anything nobody classified
	Invalid                     // the input is wrong and stays wrong
	Unauthenticated             // nobody knows who is asking
	Denied                      // known, but not allowed
	NotFound                    // it does not exist, finally
	NotYet                      // it does not exist yet: out of order, may still come
	Conflict                    // lost a race, or contradicts the present state
	Exhausted                   // over a limit of rate or size of a quota
	Unavailable                 // a dependency does not answer just now
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

// String is the kind in lower-case words, as metrics and logs carry it.
func (k Kind) String() string { return kinds[k.known()].name }

// HTTPStatus is what an HTTP caller is answered.
func (k Kind) HTTPStatus() int { return kinds[k.known()].http }

// EventStatus is what an event delivery is answered. NotFound is 422 there and
// not 404, and NotYet 503 and not 425, because a broker retries 404 and 503 and
// does not retry 422 and 425.
func (k Kind) EventStatus() int { return kinds[k.known()].event }

// Retryable reports whether a broker that gets EventStatus tries again.
func (k Kind) Retryable() bool { return RetryableStatus(k.EventStatus()) }

func (k Kind) known() Kind {
	if int(k) >= len(kinds) {
		return Internal
	}
	return k
}

// RetryableStatus reports whether Knative Eventing retries a delivery that was
// answered with the HTTP status.
func RetryableStatus(status int) bool {
	switch status {
	case http.StatusNotFound, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return true
	}
	return status >= 500 || status < 200
}

// Detail is one fault in one place of an input, in the terms of RFC 9457 section 3. It does
// not hold the value, which may be a secret.
type Detail struct {
	Location string `json:"location,omitempty"`
	Message  string `json:"message"`
}

// Error is a failure with its kind. Message is safe to show to whoever asked;
// Cause is for operators only and never leaves the process but in a log.
type Error struct {
	Kind       Kind
	Message    string
	Cause      error
	Details    []Detail
	RetryAfter time.Duration // how long the caller should wait; 0: its own choice
	Status     int           // what an HTTP caller is answered where the kind is not exact enough; 0: the kind's
}

// New makes an error of a kind with a message that is safe to show.
func New(kind Kind, format string, args ...any) *Error {
	if len(args) == 0 {
		return &Error{Kind: kind, Message: format}
	}
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Wrap makes an error of a kind from a cause. The message is safe to show, the cause is not shown.
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

// WithStatus returns a copy of e that an HTTP caller sees with this status: 412 or 428, say, for an Invalid.
func (e *Error) WithStatus(status int) *Error {
	c := *e
	c.Status = status
	return &c
}

// Error is the whole text with its cause, for operators.
func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Cause }

// KindOf is the kind of the outermost Error in err's chain. A passed context
// deadline is Timeout, a cancelled context Unavailable, anything else Internal.
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

// Is reports whether err is a failure of the kind. A nil error is of no kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// Internals are told to operators, not to callers.
const opaque = "something went wrong on our side; it has been logged"

// Public is what may be shown to whoever asked: the message of the outermost
// Error, or a fixed sentence when the failure is Internal.
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

// HTTPStatus is what an HTTP caller is answered for err.
func HTTPStatus(err error) int {
	var e *Error
	if errors.As(err, &e) && e.Status != 0 {
		return e.Status
	}
	return KindOf(err).HTTPStatus()
}

// DetailsOf are the details of the outermost Error in err's chain.
func DetailsOf(err error) []Detail {
	var e *Error
	if errors.As(err, &e) {
		return e.Details
	}
	return nil
}

// RetryAfter is how long err asks the caller to wait; 0 when it does not say.
func RetryAfter(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}
