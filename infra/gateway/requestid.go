package gateway

import (
	"math/rand/v2"
	"net/http"
)

// identify gives the request its id: the caller's, if it can be used in headers and logs, or a new one. The function
// gets it and the answer has it, both as X-Request-Id.
func identify(next Handler) Handler {
	return func(x *Exchange) {
		x.id[0] = requestID(x.Request.Header)
		id := x.id[:] // both headers share it, which saves allocations: appending to one copies it
		x.Request.Header["X-Request-Id"] = id
		x.Writer.Header()["X-Request-Id"] = id
		next(x)
	}
}

func requestID(h http.Header) string {
	if given := h["X-Request-Id"]; len(given) == 1 && isID(given[0]) {
		return given[0]
	}
	const digits = "0123456789abcdef"
	var b [32]byte
	for i := 0; i < len(b); i += 16 {
		n := rand.Uint64()
		for j := range 16 {
			b[i+j] = digits[n&15]
			n >>= 4
		}
	}
	return string(b[:])
}

// isID reports whether s is 1 to 128 letters, digits, hyphens, underscores and dots.
func isID(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return s != "" && len(s) <= 128
}
