// Package policy describes what a gateway does with the requests of one operation, as data. The function that serves
// the operation declares it, and a file of the environment may replace any field of it; package gateway carries it out.
package policy

import (
	"errors"
	"fmt"
	"reflect"
	"time"
)

// Policy is what a gateway does with the requests of one operation. A field that is zero asks for nothing.
type Policy struct {
	// Timeout is how long the function may take, with the way there and the whole answer. After it the answer is 504, or
	// broken off where a part of it was sent already.
	Timeout Duration `json:"timeout,omitempty"`

	// TryTimeout is how long one instance may take to begin its answer. After it the request is tried at the next instance
	// if Retries allow it, or answered 504.
	TryTimeout Duration `json:"try_timeout,omitempty"`

	// Retries is how often a request is tried again, at the next instance, when one cannot be reached, does not begin its
	// answer in time, or answers 502, 503 or 504. Only GET, HEAD, OPTIONS, PUT and DELETE are, which have the same effect
	// when they come twice. At most a fifth of the requests under way are such tries.
	Retries int `json:"retries,omitempty"`

	// Hedge is the time after which a GET or HEAD without an answer is sent to a second instance too; the first answer
	// counts.
	Hedge Duration `json:"hedge,omitempty"`

	// Breaker is when the function is not called for a while.
	Breaker Breaker `json:"breaker,omitzero"`

	// Concurrency is how many requests may be under way in one process of the gateway. More are 503.
	Concurrency int `json:"concurrency,omitempty"`

	// Adaptive makes the gateway find out by the time that requests take how many may be under way. More are 503.
	Adaptive bool `json:"adaptive,omitempty"`

	// MaxAnswer is the most bytes that the body of an answer has. A longer one is 502, or broken off where a part of it
	// was sent already.
	MaxAnswer int64 `json:"max_answer,omitempty"`

	// Rate is the limits that a request meets, all of them at once. A request over one of them is 429.
	Rate []Rate `json:"rate,omitempty"`

	// Split and Mirror send requests to other functions than the one that declares the operation.
	Split  []Split `json:"split,omitempty"`
	Mirror *Mirror `json:"mirror,omitempty"`

	// Compress sends answers with zstd or gzip to clients that take it. An answer must not have a secret beside text
	// that a stranger chooses: its length would tell about the secret.
	Compress bool `json:"compress,omitempty"`

	// Cache stores answers; nil: none are.
	Cache *Cache `json:"cache,omitempty"`

	// Coalesce has requests of the same caller for the same thing, at the same time, share one answer.
	Coalesce bool `json:"coalesce,omitempty"`
}

// Report is called with the field that is at fault, by its name in JSON, and what is expected of it.
type Report func(field, problem string)

// Check reports every field that is not valid.
func (p Policy) Check(report Report) {
	if p.Timeout < 0 {
		report("timeout", "want a duration of zero or more")
	}
	if p.MaxAnswer < 0 {
		report("max_answer", "want a number of bytes of zero or more")
	}
	checkRates(p.Rate, report)
	p.checkTries(report)
	p.checkTraffic(report)
	if p.Cache != nil {
		p.Cache.check(report)
	}
}

// Err returns what Check reports, as one error; nil when the policy is valid.
func (p Policy) Err() error {
	var errs []error
	p.Check(func(field, problem string) { errs = append(errs, fmt.Errorf("invalid policy: %s: %s", field, problem)) })
	return errors.Join(errs...)
}

// Or returns the policy with the fields of another one in place of those that ask for nothing.
func (p Policy) Or(other Policy) Policy {
	into, from := reflect.ValueOf(&p).Elem(), reflect.ValueOf(other)
	for i := range into.NumField() {
		if into.Field(i).IsZero() {
			into.Field(i).Set(from.Field(i))
		}
	}
	return p
}

// IsZero reports whether the policy asks for nothing.
func (p Policy) IsZero() bool { return reflect.ValueOf(p).IsZero() }

// Duration is a time.Duration that JSON and YAML have as text: 1m30s.
type Duration time.Duration

// String returns the duration as time.Duration does.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return errors.New("want a duration such as 500ms, 30s or 1h")
	}
	*d = Duration(parsed)
	return nil
}
