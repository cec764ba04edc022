package proxy

import (
	"errors"
	"net/http"
)

// BodyError is returned by the Read of a request's body that its client has not sent as HTTP wants it. Such a request
// is answered 400, and says nothing about the instance.
type BodyError struct{ Cause error }

// Error implements error.
func (e *BodyError) Error() string { return "read the body of the request: " + e.Cause.Error() }

// Unwrap returns the cause.
func (e *BodyError) Unwrap() error { return e.Cause }

// ofBody reports whether an error is about the body of the request.
func ofBody(err error) bool {
	var large *http.MaxBytesError
	var body *BodyError
	return errors.As(err, &large) || errors.As(err, &body)
}
