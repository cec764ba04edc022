package gateway

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

// Problem answers a request with a problem document (RFC 9457), such as the functions write
// too. Causes stay inside.
func Problem(w http.ResponseWriter, r *http.Request, err error) {
	p := function.ProblemOf(err)
	p.Instance = r.URL.Path
	body, failed := json.Marshal(p)
	if failed != nil { // a detail's value that JSON cannot hold
		p.Errors = nil
		body, _ = json.Marshal(p)
	}
	h := w.Header()
	if after := fault.RetryAfter(err); after > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", challenge(r, p.Detail))
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // a caller that has gone away is nobody's fault
}

var quoted = strings.NewReplacer(`"`, "'", `\`, "'")

// challenge is what RFC 6750 section 3 asks for: an error only if a token was shown.
func challenge(r *http.Request, detail string) string {
	if r.Header.Get("Authorization") == "" {
		return `Bearer realm="ebb"`
	}
	return `Bearer realm="ebb", error="invalid_token", error_description="` + quoted.Replace(detail) + `"`
}
