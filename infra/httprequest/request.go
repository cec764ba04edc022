// Package httprequest checks an HTTP request before its handler runs, and parses the header fields that several
// handlers use. The gateway and every function use it, so that both interpret a request in the same way.
package httprequest

import (
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/ebb-dev/ebb/infra/fault"
)

// maxParameters is the most parameters that a query may have.
const maxParameters = 100

// single lists the fields that a request must not have twice, because they are not lists and handlers could use
// different ones of them. A repeated Authorization is checked by the authenticator.
var single = []string{"Content-Type", "Idempotency-Key"}

// Check returns nil or a fault.Invalid with status 400, and joins the lines of each list field to one line (RFC 9110
// section 5.3), because http.Header.Get returns the first only.
//
// It refuses a path or a query that is not UTF-8, has U+0000 or cannot be decoded, a query of more than 100 parameters,
// and two lines of a field that is not a list.
func Check(r *http.Request) error {
	switch {
	case !text(r.URL.Path):
		return invalid("the path is not valid UTF-8, or holds a zero byte")
	case strings.Count(r.URL.RawQuery, "&") >= maxParameters:
		return invalid("the query has more than %d parameters", maxParameters)
	case !query(r.URL.RawQuery):
		return invalid("the query is not valid UTF-8 in percent-encoding, or holds a zero byte")
	}
	for name, lines := range r.Header {
		if len(lines) < 2 || name == "Authorization" {
			continue
		}
		for _, one := range single {
			if name == one {
				return invalid("more than one %s header", name)
			}
		}
		separator := ", "
		if name == "Cookie" {
			separator = "; "
		}
		r.Header[name] = []string{strings.Join(lines, separator)}
	}
	return nil
}

// invalid returns a fault.Invalid with status 400.
func invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).WithStatus(http.StatusBadRequest)
}

// text reports whether every store accepts s as text.
func text(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// query reports whether all names and values of a query can be decoded and are text.
func query(raw string) bool {
	if raw == "" || text(raw) && !strings.ContainsAny(raw, "%;") {
		return true
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return false
	}
	for name, list := range values {
		if !text(name) || !text(strings.Join(list, "")) {
			return false
		}
	}
	return true
}

// JSON returns nil when the header says that the body is JSON in UTF-8, in any case of letters: application/json or a
// type with the suffix +json, and no other charset. Otherwise it returns a fault.Invalid with status 415.
func JSON(h http.Header) error {
	contentType := h.Get("Content-Type")
	if contentType == "" {
		return unsupported("the body needs a Content-Type, which is application/json")
	}
	media, parameters, err := mime.ParseMediaType(contentType)
	switch charset, has := parameters["charset"]; {
	case err != nil:
		return unsupported("invalid Content-Type")
	case media != "application/json" && !(strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json")):
		return unsupported("the body must be application/json")
	case has && !strings.EqualFold(charset, "utf-8"):
		return unsupported("the charset of the body must be UTF-8")
	}
	return nil
}

func unsupported(message string) error {
	return fault.New(fault.Invalid, "%s", message).WithStatus(http.StatusUnsupportedMediaType)
}
