package conformance_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ebb-dev/ebb/infra/broker/conformance"
	"github.com/ebb-dev/ebb/infra/broker/httpapi"
)

// mutant changes a broker so that it does one thing wrong: with requests to its ingress, with triggers, or with
// deliveries and their answers.
type mutant struct {
	ingress func(w http.ResponseWriter, r *http.Request, next http.Handler)
	filter  func(f map[string]any) bool                // false: the filter is dropped
	config  func(c map[string]any)                     // changes the config of a subscription
	out     func(r *http.Request)                      // changes a delivery
	in      func(a *http.Response, body []byte) []byte // changes its answer
	client  *http.Client                               // instead of out and in
	fails   string                                     // exactly these cases fail
	alone   bool                                       // would hide the mistakes of other mutants
}

var mutants = map[string]mutant{
	"retries on 400":          {in: status(400, 503), fails: "status-400"},
	"does not retry on 404":   {in: status(404, 400), fails: "status-404"},
	"takes 204 for a failure": {in: status(204, 400), fails: "status-204"},
	"drops Retry-After": {in: func(a *http.Response, body []byte) []byte { a.Header.Del("Retry-After"); return body },
		fails: "retry-after-429 retry-after-503 retry-after-date retry-after-max"},
	"forgets knativeerrorcode": {out: drop("Ce-Knativeerrorcode"), fails: "dead-code"},
	"forgets knativeerrordest": {out: drop("Ce-Knativeerrordest"), fails: "dead-dest"},
	"does not say Prefer":      {out: drop("Prefer"), fails: "reply-prefer"},
	"loses the trace":          {out: drop("Ce-Traceparent"), fails: "trace-delivery trace-reply"},
	"loses replies": {in: func(a *http.Response, body []byte) []byte {
		if a.StatusCode != http.StatusOK {
			return body
		}
		a.Header = http.Header{}
		return nil
	}, fails: "reply-binary reply-filtered reply-malformed reply-no-event reply-refused reply-structured trace-reply"},
	"takes 202 for a reply": {in: func(a *http.Response, body []byte) []byte {
		if len(body) > 0 && a.StatusCode == http.StatusAccepted {
			a.StatusCode = http.StatusOK
		}
		return body
	}, fails: "reply-202"},
	"follows redirects": {client: &http.Client{}, fails: "redirect", alone: true},
	"does not percent-encode": {out: func(r *http.Request) {
		for name, values := range r.Header {
			if strings.HasPrefix(name, "Ce-") {
				values[0], _ = url.PathUnescape(values[0])
			}
		}
	}, fails: "binding-percent-in binding-percent-out"},
	"cuts large data short": {out: func(r *http.Request) {
		if body, _ := io.ReadAll(r.Body); len(body) > 32<<10 {
			setBody(r, body[:32<<10])
		} else {
			setBody(r, body)
		}
	}, fails: "binding-64k binding-too-large"},
	"makes up an id": {ingress: func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodPost && r.Header.Get("Ce-Id") == "" {
			r.Header.Set("Ce-Id", "invented")
		}
		next.ServeHTTP(w, r)
	}, fails: "ingress-refuses-no-id"},
	"takes GET for a good request": {ingress: func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method != http.MethodGet || r.URL.Path != "/" {
			next.ServeHTTP(w, r)
		}
	}, fails: "ingress-methods"},
	"takes valid events of a batch": {ingress: func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/cloudevents-batch") {
			next.ServeHTTP(w, r)
			return
		}
		var all []json.RawMessage
		json.NewDecoder(r.Body).Decode(&all)
		r.Header.Set("Content-Type", "application/cloudevents+json")
		for _, one := range all {
			setBody(r, one)
			next.ServeHTTP(&discardResponse{}, r)
		}
		w.WriteHeader(http.StatusAccepted)
	}, fails: "batch-all-or-nothing"},
	"does not unescape quoted values": {ingress: changing(func(r *http.Request) {
		if v := r.Header.Get("Ce-Subject"); strings.HasPrefix(v, `"`) {
			r.Header.Set("Ce-Subject", url.PathEscape(v))
		}
	}), fails: "binding-quoted"},
	"normalizes sources": {out: func(r *http.Request) {
		if u, err := url.Parse(r.Header.Get("Ce-Source")); err == nil {
			r.Header.Set("Ce-Source", u.String())
		}
	}, fails: "binding-source"},
	"loses the state of the trace": {out: drop("Ce-Tracestate"), fails: "binding-tracestate"},
	"replaces what is not UTF-8": {out: func(r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("Content-Type") != "application/octet-stream" {
			body = bytes.ToValidUTF8(body, []byte("?"))
		}
		setBody(r, body)
	}, fails: "binding-bytes"},
	"takes +json for text": {out: func(r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.HasSuffix(r.Header.Get("Content-Type"), "+json") && json.Valid(body) {
			body, _ = json.Marshal(string(body))
		}
		setBody(r, body)
	}, fails: "binding-json-suffix"},
	"refuses null": {ingress: func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		body, _ := io.ReadAll(r.Body)
		setBody(r, body)
		if bytes.Contains(body, []byte(`"datacontenttype":null`)) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		next.ServeHTTP(w, r)
	}, fails: "binding-null"},
	"does not tell implied types": {out: func(r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if setBody(r, body); string(body) == `{"implied":true}` {
			r.Header.Del("Content-Type")
		}
	}, fails: "binding-implied-json"},
	"does not see codings": {ingress: changing(func(r *http.Request) { r.Header.Del("Content-Encoding") }),
		fails: "binding-gzip"},
	"cuts numbers": {ingress: changing(func(r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		setBody(r, bytes.ReplaceAll(body, []byte(`"myext":1.5`), []byte(`"myext":1`)))
	}), fails: "ingress-refuses-float"},
	"ignores prefix": {filter: func(f map[string]any) bool { return f["prefix"] == nil },
		fails: "filter-list filter-prefix filter-prefix-many filter-refuses-empty-prefix filter-refuses-two-dialects"},
	"ignores not": {filter: func(f map[string]any) bool { return f["not"] == nil },
		fails: "filter-list filter-nested filter-not filter-not-absent filter-refuses-nested"},
	"takes unknown dialects": {filter: func(f map[string]any) bool { return f["regex"] == nil },
		fails: "filter-refuses-dialect"},
	"lets divisions by zero pass": {filter: func(f map[string]any) bool {
		expr, _ := f["cesql"].(string)
		return !strings.HasPrefix(expr, "1 / 0")
	}, fails: "cesql-division-by-zero"},
	"ignores the timeout": {config: func(c map[string]any) { delete(c, "timeout") }, fails: "timeout timeout-dead"},
	"ignores retryAfterMax": {config: func(c map[string]any) { delete(c, "retryAfterMax") },
		fails: "retry-after-max retry-after-zero"},
	"does not back off exponentially": {config: func(c map[string]any) {
		if c["backoffPolicy"] == "exponential" && c["backoffDelay"] == "PT0.2S" {
			delete(c, "backoffDelay")
		}
	}, fails: "backoff-exponential"},
	"drops dead letters": {config: func(c map[string]any) { c["deadLetterSink"] = nil },
		fails: "backoff-exponential backoff-linear dead-code dead-data dead-data-any dead-dest dead-each-trigger dead-same " +
			"dead-sink-retried no-answer-dead redirect " +
			"reply-malformed reply-no-event retry-count retry-same status-200 status-201 status-202 status-204 status-206 " +
			"status-299 status-300 status-304 status-400 status-401 status-403 status-404 status-405 status-408 status-409 " +
			"status-410 status-413 status-415 status-422 status-429 status-451 status-500 status-502 status-503 status-504 " +
			"status-599 timeout-dead", alone: true},
}

// changing returns an ingress that changes requests.
func changing(change func(*http.Request)) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		change(r)
		next.ServeHTTP(w, r)
	}
}

func status(from, to int) func(*http.Response, []byte) []byte {
	return func(a *http.Response, body []byte) []byte {
		if a.StatusCode == from {
			a.StatusCode = to
		}
		return body
	}
}

func drop(name string) func(*http.Request) { return func(r *http.Request) { r.Header.Del(name) } }

func setBody(r *http.Request, body []byte) {
	r.Body, r.ContentLength, r.GetBody = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
}

// discardResponse is a ResponseWriter that drops the response.
type discardResponse struct{}

func (*discardResponse) Header() http.Header         { return http.Header{} }
func (*discardResponse) Write(p []byte) (int, error) { return len(p), nil }
func (*discardResponse) WriteHeader(int)             {}

// mutantTransport applies the mutations to deliveries and their answers.
type mutantTransport struct {
	http.RoundTripper
	mutants []mutant
}

// RoundTrip implements http.RoundTripper.
func (p mutantTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	for _, m := range p.mutants {
		if m.out != nil {
			m.out(r)
		}
	}
	a, err := p.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(a.Body)
	a.Body.Close()
	for _, m := range p.mutants {
		if m.in != nil {
			body = m.in(a, body)
		}
	}
	a.Body = io.NopCloser(bytes.NewReader(body))
	return a, err
}

// wrap returns a handler that applies the mutation to requests before next serves them.
func (m mutant) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/subscriptions" && (m.filter != nil || m.config != nil) {
			m.rewrite(r)
		}
		if m.ingress != nil {
			m.ingress(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (m mutant) rewrite(r *http.Request) {
	var s map[string]any
	json.NewDecoder(r.Body).Decode(&s)
	if filters, ok := s["filters"].([]any); ok && m.filter != nil {
		s["filters"] = slices.DeleteFunc(filters, func(f any) bool { return !m.filter(f.(map[string]any)) })
	}
	if c, ok := s["config"].(map[string]any); ok && m.config != nil {
		m.config(c)
	}
	text, _ := json.Marshal(s)
	setBody(r, text)
}

// most matches all cases but most of CESQL's: there are many of them, and no mutant concerns the others.
var most = regexp.MustCompile(`^(ingress|binding|batch|delivery|status|redirect|no-answer|retry|backoff|timeout|` +
	`dead|reply|trace|filter|api|cesql-(division|boolean))`)

// groups returns the names of mutants to combine in one broker each. Combined mutants save runs of the suite. No two
// of a group concern the same cases.
func groups() (out [][]string) {
	out = make([][]string, 3)
	next := 0
	for _, name := range slices.Sorted(maps.Keys(mutants)) {
		if mutants[name].alone {
			out = append(out, []string{name})
			continue
		}
		out[next%3] = append(out[next%3], name)
		next++
	}
	return out
}

// A broker with mistakes fails exactly the cases that check for them.
func TestMutantsFailTheirCases(t *testing.T) {
	var wg sync.WaitGroup
	for _, names := range groups() {
		client := httpapi.NewClient()
		p := mutantTransport{RoundTripper: client.Transport}
		var want []string
		for _, name := range names {
			m := mutants[name]
			p.mutants = append(p.mutants, m)
			want = append(want, strings.Fields(m.fails)...)
			if m.client != nil {
				client.CheckRedirect = m.client.CheckRedirect
			}
		}
		client.Transport = p
		url := startBroker(t, inMemory(), httpapi.Config{Client: client}, func(h http.Handler) http.Handler {
			for _, m := range p.mutants {
				h = m.wrap(h)
			}
			return h
		})
		wg.Go(func() {
			report := try(t, conformance.Config{URL: url, Only: most, Patience: 0.7, Parallel: 12})
			var failed []string
			for _, r := range report.Results {
				if r.Outcome != conformance.Held {
					failed = append(failed, r.ID)
				}
			}
			slices.Sort(failed)
			slices.Sort(want)
			if !slices.Equal(failed, want) {
				t.Errorf("a broker that %s fails\n%v, want\n%v\n%s", strings.Join(names, ", "), failed, want, text(report))
			}
		})
	}
	wg.Wait()
}
