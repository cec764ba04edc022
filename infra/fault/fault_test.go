package fault_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Each kind has the statuses of the failure table, and the broker retries where the table says so.
func TestKinds(t *testing.T) {
	for _, c := range []struct {
		kind        fault.Kind
		http, event int
		retried     bool
	}{
		{fault.Invalid, 422, 422, false},
		{fault.Unauthenticated, 401, 401, false},
		{fault.Denied, 403, 403, false},
		{fault.NotFound, 404, 422, false},
		{fault.NotYet, 404, 503, true},
		{fault.Conflict, 409, 409, true},
		{fault.Exhausted, 429, 429, true},
		{fault.Unavailable, 503, 503, true},
		{fault.Timeout, 504, 503, true},
		{fault.Internal, 500, 500, true},
		{fault.TooLarge, 413, 422, false},
		{fault.Kind(200), 500, 500, true},
	} {
		if got := c.kind.HTTPStatus(); got != c.http {
			t.Errorf("%v: got HTTP status %d, want %d", c.kind, got, c.http)
		}
		if got := c.kind.EventStatus(); got != c.event {
			t.Errorf("%v: got event status %d, want %d", c.kind, got, c.event)
		}
		if got := c.kind.Retryable(); got != c.retried {
			t.Errorf("%v: got retryable %v, want %v", c.kind, got, c.retried)
		}
	}
}

// Knative's table: 404, 408, 409, 429 and 5xx are tried again, no other status is.
func TestRetryableStatus(t *testing.T) {
	retried := map[int]bool{404: true, 408: true, 409: true, 429: true}
	for status := 200; status < 600; status++ {
		want := retried[status] || status >= 500
		if got := fault.RetryableStatus(status); got != want {
			t.Errorf("%d: got %v, want %v", status, got, want)
		}
	}
}

// The kind and the public message survive wrapping; the cause is never shown.
func TestWrapping(t *testing.T) {
	cause := errors.New("password hunter2 refused")
	err := fmt.Errorf("reserve stock: %w", fault.Wrap(cause, fault.Unavailable, "the store is busy").After(time.Second))
	if got := fault.KindOf(err); got != fault.Unavailable {
		t.Errorf("got kind %v", got)
	}
	if got := fault.Public(err); got != "the store is busy" {
		t.Errorf("got %q", got)
	}
	if fault.RetryAfter(err) != time.Second || !errors.Is(err, cause) || !strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

// An error without a kind is Internal, and a caller sees a fixed sentence.
func TestUnclassified(t *testing.T) {
	for _, err := range []error{errors.New("secret"), fault.New(fault.Internal, "secret")} {
		if got := fault.Public(err); fault.KindOf(err) != fault.Internal || strings.Contains(got, "secret") {
			t.Errorf("got %v %q", fault.KindOf(err), got)
		}
	}
	if got := fault.KindOf(fmt.Errorf("call: %w", context.DeadlineExceeded)); got != fault.Timeout {
		t.Errorf("got %v for a passed deadline", got)
	}
}

// A status that is more exact than that of the kind is for HTTP callers only.
func TestWithStatus(t *testing.T) {
	err := fault.New(fault.Invalid, "stale").WithStatus(412)
	if got := fault.HTTPStatus(err); got != 412 {
		t.Errorf("got %d", got)
	}
	if got := fault.KindOf(err).EventStatus(); got != 422 {
		t.Errorf("got %d for a delivery", got)
	}
}
