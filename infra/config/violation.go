package config

import (
	"encoding"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/kelseyhightower/envconfig"
)

// Violation is one setting that is missing or not valid. Variable is empty when Validate reported it.
type Violation struct {
	Variable string
	Problem  string
}

func (v Violation) String() string {
	if v.Variable == "" {
		return v.Problem
	}
	return v.Variable + " " + v.Problem
}

// Error is every violation of a configuration. Its text has a header and a line for each violation, for a main to print
// before it exits with status 2.
type Error struct {
	Violations []Violation
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "config: %d faults", len(e.Violations))
	if len(e.Violations) == 1 {
		b.Reset()
		b.WriteString("config: 1 fault")
	}
	for _, v := range e.Violations {
		b.WriteString("\n  " + strings.ReplaceAll(v.String(), "\n", " "))
	}
	return b.String()
}

// Join returns one *Error with the violations of several errors, so that a main which loads more than one struct
// reports everything at once. It returns nil if there is no violation.
func Join(errs ...error) error {
	var violations []Violation
	for _, err := range errs {
		for _, err := range split(err) {
			var e *Error
			if errors.As(err, &e) {
				violations = append(violations, e.Violations...)
			} else {
				violations = append(violations, Violation{Problem: err.Error()})
			}
		}
	}
	return asError(violations)
}

// asError returns nil, and not a nil *Error, if there is no violation.
func asError(violations []Violation) error {
	if len(violations) == 0 {
		return nil
	}
	return &Error{Violations: violations}
}

// split returns the parts of an error of errors.Join and the like.
func split(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var errs []error
	for _, err := range joined.Unwrap() {
		errs = append(errs, split(err)...)
	}
	return errs
}

// reject returns why a value is not valid. The value of a secret is not in it, nor is the cause, which may quote the
// value.
func (i info) reject(value string, cause error) string {
	var parse *envconfig.ParseError
	if errors.As(cause, &parse) {
		cause = parse.Err
	}
	expected := expectation(i.field.Type())
	switch {
	case i.secret() && expected != "":
		return fmt.Sprintf("is not %s (its value is secret)", expected)
	case i.secret():
		return "has a value that is not accepted (it is secret)"
	case expected != "":
		return fmt.Sprintf("is %s, which is not %s", show(value), expected)
	case holdsPassword(value):
		return fmt.Sprintf("is %s, which is not accepted", show(value))
	}
	return fmt.Sprintf("is %s: %v", show(value), cause)
}

// want describes the value that a variable should have.
func (i info) want() string {
	text := "expected " + expectation(i.field.Type())
	if text == "expected " {
		text = "a value is expected"
	}
	if desc := i.tag.Get("desc"); desc != "" {
		text += ": " + desc
	}
	return text
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	urlType      = reflect.TypeFor[url.URL]()
)

// expectation describes the values of a type; "" for a type that decodes itself.
func expectation(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == durationType:
		return "a duration such as 250ms or 1m30s"
	case t == urlType:
		return "a URL"
	case decodesItself(t):
		return ""
	}
	switch k := t.Kind(); k {
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Sprintf("a whole number of %d bits", t.Bits())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprintf("a whole number of %d bits from 0", t.Bits())
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice:
		if each := expectation(t.Elem()); each != "" {
			return "a list, with commas between, of which each is " + each
		}
	}
	return ""
}

func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	for _, i := range []reflect.Type{
		reflect.TypeFor[encoding.TextUnmarshaler](),
		reflect.TypeFor[encoding.BinaryUnmarshaler](),
		reflect.TypeFor[envconfig.Decoder](),
		reflect.TypeFor[envconfig.Setter](),
	} {
		if p.Implements(i) {
			return true
		}
	}
	return false
}

// show quotes a value, but not one that looks as if it has a password in it.
func show(value string) string {
	if holdsPassword(value) {
		return "a value that may hold a password"
	}
	return fmt.Sprintf("%q", value)
}

// holdsPassword reports whether a value looks like a URL with credentials.
func holdsPassword(value string) bool {
	_, rest, ok := strings.Cut(value, "://")
	return ok && (strings.Contains(rest, "@") || strings.Contains(rest, passwordIs))
}

// passwordIs stands before a password in the query of a URL, as libpq takes it; sslpassword ends so too.
const passwordIs = "password="
