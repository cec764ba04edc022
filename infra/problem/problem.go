// Package problem writes problem documents (RFC 9457), the body of every response that is an error.
package problem

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
)

// ContentType is the media type of a problem document.
const ContentType = "application/problem+json"

// MaxErrors is how many details a problem document has at most.
const MaxErrors = 20

// Problem is a problem document. It never has the cause of an error, a stack or the name of a Go type.
type Problem struct {
	Type     string         `json:"type,omitempty"` // a URI; "": the title says it all
	Title    string         `json:"title"`
	Status   int            `json:"status"`
	Detail   string         `json:"detail,omitempty"`
	Instance string         `json:"instance,omitempty"`
	Errors   []fault.Detail `json:"errors,omitempty"`

	// ViolatedPolicies are the rate limits that a request is over (draft-ietf-httpapi-ratelimit-headers-11).
	ViolatedPolicies []string `json:"violated-policies,omitempty"`

	retryAfter time.Duration
}

// Of returns the problem document of an error: its kind's status, its public message and its details.
func Of(err error) *Problem {
	status, details := fault.HTTPStatus(err), fault.DetailsOf(err)
	return &Problem{
		Title: http.StatusText(status), Status: status, Detail: fault.Public(err),
		Errors: details[:min(len(details), MaxErrors)], retryAfter: fault.RetryAfter(err),
	}
}

// Write responds with the problem document of err: status, Retry-After, and for 401 the challenge that RFC 6750 section
// 3 asks for. Other header fields that were set before are kept.
func Write(w http.ResponseWriter, r *http.Request, err error) {
	p := Of(err)
	p.Instance = r.URL.Path
	p.Write(w, r)
}

// Write responds with the document.
func (p *Problem) Write(w http.ResponseWriter, r *http.Request) {
	body, h := p.Body(), w.Header()
	p.SetHeader(h, r)
	h.Set("Content-Type", ContentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // a caller that has gone away needs no answer
}

// Body returns the document in JSON.
func (p *Problem) Body() []byte {
	body, err := json.Marshal(p)
	if err != nil { // a detail's value that JSON cannot hold
		short := *p
		short.Errors = nil
		body, _ = json.Marshal(short) // text and numbers always marshal
	}
	return body
}

// SetHeader sets the header fields of the problem, other than those of its content.
func (p *Problem) SetHeader(h http.Header, r *http.Request) {
	h.Set("Cache-Control", "no-store")
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", challenge(r, p.Detail))
	}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((p.retryAfter+time.Second-1)/time.Second)))
	}
}

var quoted = strings.NewReplacer(`"`, "'", `\`, "'")

// challenge returns the WWW-Authenticate field, which names an error only if the request had credentials (RFC 6750,
// section 3).
func challenge(r *http.Request, detail string) string {
	if r.Header.Get("Authorization") == "" {
		return `Bearer realm="ebb"`
	}
	return `Bearer realm="ebb", error="invalid_token", error_description="` + quoted.Replace(detail) + `"`
}
