// Package brokerurl has what the URLs of all brokers share. Its errors are predicates without any part of the URL, such
// as "has no host", before which the caller puts the name of the setting: any part of a URL may be a password.
package brokerurl

import (
	"maps"
	"net/url"
	"slices"
	"strconv"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Opened returns what a driver's Open has returned as a broker.Opener returns it: with an error, no broker, instead of
// an interface that holds a nil pointer.
func Opened[B broker.Broker](b B, err error) (broker.Broker, error) {
	if err != nil {
		return nil, err
	}
	return b, nil
}

// OfPart returns the name of a part of the broker, see broker.Options; "" is the whole.
func OfPart(name, part string) string {
	if part == "" {
		return name
	}
	return name + "-" + part
}

// CheckBlobs refuses the address of a store of blobs that is neither a bucket, SCHEME://BUCKET, nor file:PATH.
func CheckBlobs(address, scheme string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != scheme && u.Scheme != "file" || u.Scheme == scheme && (u.Host == "" || u.Path != "") {
		return Invalid("has invalid blobs: want %s://BUCKET or file:PATH", scheme)
	}
	return nil
}

// NotValid returns the predicate of a URL that cannot be parsed.
func NotValid() error {
	return Invalid("is not a valid URL; escape special characters of the password with %%")
}

// Parameters calls set with each parameter of a query, sorted by name. It refuses a parameter that is there twice.
func Parameters(query string, set func(name, value string) error) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return Invalid("has invalid parameters")
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if len(values[name]) > 1 {
			return Invalid("has a parameter twice")
		}
		if err := set(name, values[name][0]); err != nil {
			return err
		}
	}
	return nil
}

// Number returns the number of a parameter, from 1 to most. The predicate of another value begins with what, such as
// "has invalid replicas".
func Number(what, value string, most int) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > most {
		return 0, Invalid("%s: want a number from 1 to %d", what, most)
	}
	return n, nil
}

// IsName reports whether a text has letters, digits, - and _ only, and at least one of them. It takes no regular
// expression, as every process links this package and would compile it at its start.
func IsName(text string) bool {
	for _, r := range text {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
			return false
		}
	}
	return text != ""
}

// InvalidName returns the predicate of a URL whose parameter name is not such a name.
func InvalidName() error { return Invalid("has an invalid name: want letters, digits, - and _ only") }

// Invalid returns a predicate.
func Invalid(format string, args ...any) error { return fault.New(fault.Invalid, format, args...) }
