// Package committedheader is the header field by which a function tells a gateway that a refusal (4xx) has changed
// data: the answers that the gateway stores may not be true any more.
package committedheader

import "net/http"

// Name is the name of the field. Its value is true. A gateway takes it out: clients need not know.
const Name = "Ebb-Committed"

// Set sets the field.
func Set(h http.Header) { h[Name] = []string{"true"} }

// Has reports whether the field is there.
func Has(h http.Header) bool { return len(h[Name]) > 0 }
