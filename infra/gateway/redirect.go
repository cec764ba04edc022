package gateway

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/ebb-dev/ebb/infra/internal/strictyaml"
)

// redirect leads requests from a path to another place.
type redirect struct {
	From   string `json:"from"`   // a path
	To     string `json:"to"`     // a path, or an http or https URL; the query of the request is added
	Status int64  `json:"status"` // 301, 302, 307 or 308; 0: 308
}

// checkRedirects reports what is not valid in the redirects of a document.
func checkRedirects(all []redirect, doc *strictyaml.Document) {
	seen := map[string]bool{}
	for i, r := range all {
		report := reporter(doc, "redirects["+strconv.Itoa(i)+"]")
		to, err := url.Parse(r.To)
		switch {
		case !strings.HasPrefix(r.From, "/") || strings.ContainsAny(r.From, "?#{}"):
			report("from", "want a path that begins with a slash")
		case seen[r.From]:
			report("from", "duplicate redirect")
		case r.From == r.To:
			report("to", "want another place")
		}
		seen[r.From] = true
		inside := err == nil && to.Host == "" && to.Scheme == "" && strings.HasPrefix(r.To, "/")
		outside := err == nil && to.Host != "" && (to.Scheme == "http" || to.Scheme == "https")
		if !inside && !outside || strings.ContainsAny(r.To, "?#\\\r\n") {
			report("to", "want a path, or an http or https URL, without a query")
		}
		switch r.Status {
		case 0, http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		default:
			report("status", "want 301, 302, 307 or 308")
		}
	}
}

// redirects leads requests for the paths that the environment names to other places.
func redirects(next Handler) Handler {
	return func(x *Exchange) {
		r, ok := x.table.redirects[x.Request.URL.Path]
		if !ok {
			next(x)
			return
		}
		to := r.To
		if q := x.Request.URL.RawQuery; q != "" {
			to += "?" + q
		}
		status := int(r.Status)
		if status == 0 {
			status = http.StatusPermanentRedirect
		}
		h := x.Writer.Header()
		h.Set("Location", to)
		h.Set("Content-Length", "0")
		x.Writer.WriteHeader(status)
	}
}
