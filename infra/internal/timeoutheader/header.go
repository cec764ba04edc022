// Package timeoutheader is the header field by which a gateway tells a function how much time a request has left.
package timeoutheader

import (
	"net/http"
	"strconv"
	"time"
)

// Name is the name of the field. Its value is a number of milliseconds, from the moment in which the request was sent:
// clocks of two machines differ, but their speed does not.
const Name = "Ebb-Timeout"

// longest is the longest time that the field may have, so that it can be counted in nanoseconds.
const longest = 24 * time.Hour

// Set sets the field, rounded up to a millisecond, unless it has less already.
func Set(h http.Header, left time.Duration) {
	if given, ok := Get(h); ok && given <= left {
		return
	}
	left = min(max(left, time.Millisecond), longest)
	h[Name] = []string{strconv.FormatInt(int64((left+time.Millisecond-1)/time.Millisecond), 10)}
}

// Get returns the time that is left, and whether the field is there and valid.
func Get(h http.Header) (time.Duration, bool) {
	values := h[Name]
	if len(values) != 1 || len(values[0]) > 8 {
		return 0, false
	}
	n, err := strconv.ParseUint(values[0], 10, 32)
	if err != nil || n == 0 || time.Duration(n)*time.Millisecond > longest {
		return 0, false
	}
	return time.Duration(n) * time.Millisecond, true
}
