package gateway

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/ebb-dev/ebb/infra/internal/strictyaml"
	"github.com/ebb-dev/ebb/infra/policy"
)

// redirect leads requests from a path to another place. The query of the request is added to it.
type redirect struct {
	From   string `json:"from"`   // a path; with /* at the end: all paths below it
	To     string `json:"to"`     // a path, or an http or https URL; with /* at the end: what follows in the path is added
	Host   string `json:"host"`   // that requests are sent to, as in Split; "": any
	Status int64  `json:"status"` // 301, 302, 307 or 308; 0: 308
}

// checkRedirects reports what is not valid in the redirects of a document.
func checkRedirects(all []redirect, doc *strictyaml.Document) {
	type place struct{ host, from string }
	seen := map[place]bool{}
	for i, r := range all {
		report := reporter(doc, "redirects["+strconv.Itoa(i)+"]")
		from, below := strings.CutSuffix(r.From, "/*")
		to, addsRest := strings.CutSuffix(r.To, "/*")
		switch {
		case !strings.HasPrefix(r.From, "/") || strings.ContainsAny(from, "?#{}*\\"):
			report("from", "want a path that begins with a slash")
		case seen[place{r.Host, r.From}]:
			report("from", "duplicate redirect")
		case r.From == r.To && r.Host == "":
			report("to", "want another place")
		}
		seen[place{r.Host, r.From}] = true
		if addsRest && !below {
			report("to", "want /* only where from has it")
		}
		if below && r.Host == "" && strings.HasPrefix(to+"/", from+"/") {
			report("to", "want a place that is not below from: it would be redirected again")
		}
		if !isPlace(to) && (!addsRest || to != "") || addsRest && strings.HasSuffix(to, "/") {
			report("to", "want a path, or an http or https URL, without a query")
		}
		if r.Host != "" && !policy.HostPattern(r.Host) {
			report("host", "want the name of a host without a port, or *.NAME")
		}
		switch r.Status {
		case 0, http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		default:
			report("status", "want 301, 302, 307 or 308")
		}
	}
}

// isPlace reports whether text is a path of this host, or a URL of another one.
func isPlace(text string) bool {
	u, err := url.Parse(text)
	if err != nil || strings.ContainsAny(text, "?#\\\r\n*") {
		return false
	}
	if u.Host == "" {
		return u.Scheme == "" && strings.HasPrefix(text, "/")
	}
	return u.Scheme == "http" || u.Scheme == "https"
}

// redirects leads requests for the paths that the environment names to other places. The first redirect that a request
// meets counts.
func redirects(next Handler) Handler {
	return func(x *Exchange) {
		for _, r := range x.table.redirects {
			to, ok := r.lead(x.Request)
			if !ok {
				continue
			}
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
			return
		}
		next(x)
	}
}

// lead returns where a request is led to, without the query; false if the redirect is for other requests.
func (r redirect) lead(request *http.Request) (to string, ok bool) {
	if r.Host != "" && !policy.HostMatches(r.Host, hostOf(request)) {
		return "", false
	}
	above, below := strings.CutSuffix(r.From, "*")
	if !below {
		return r.To, request.URL.Path == r.From
	}
	if !strings.HasPrefix(request.URL.Path, above) {
		return "", false
	}
	place, addsRest := strings.CutSuffix(r.To, "*")
	if !addsRest {
		return place, true
	}
	// What follows is added as the request has it, so that an escaped slash stays one. What could lead out of the place,
	// or to another host (//evil.example), is not led anywhere.
	rest := request.URL.EscapedPath()
	for range strings.Count(above, "/") {
		if _, rest, ok = strings.Cut(rest, "/"); !ok {
			return "", false
		}
	}
	decoded, err := url.PathUnescape(rest)
	if err != nil || decoded != "" && !allPlain(strings.TrimSuffix(decoded, "/")) || strings.Contains(decoded, `\`) {
		return "", false
	}
	return place + rest, true
}
