package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/ebb-dev/ebb/infra/internal/lifetime"
)

// trial holds the state of one case while it runs.
type trial struct {
	*suite
	id    string
	lasts *lifetime.Lifetime // ends with the context of the run

	mu       sync.Mutex
	n        int // counts the events and sinks of the trial; part of their names
	triggers []string
	failures []Failure
	skipped  string
}

// stopped is the value of the panic that ends a trial early.
var stopped = new(int)

// fail records a failure.
func (t *trial) fail(expected, seen string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures = append(t.failures, Failure{expected, seen})
}

// check records a failure unless ok.
func (t *trial) check(ok bool, expected, seen string, args ...any) {
	if !ok {
		t.fail(expected, fmt.Sprintf(seen, args...))
	}
}

// stop records a failure and ends the trial.
func (t *trial) stop(expected, seen string, args ...any) {
	t.fail(expected, fmt.Sprintf(seen, args...))
	panic(stopped)
}

// skip ends the trial without a verdict.
func (t *trial) skip(why string) {
	t.mu.Lock()
	t.skipped = why
	t.mu.Unlock()
	panic(stopped)
}

func (t *trial) next() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
	return t.n
}

// typ returns the event type of the trial, which no other trial uses.
func (t *trial) typ() string { return "dev.ebb.conformance." + t.run + "." + t.id }

// ours returns a filter that only events of the trial pass.
func (t *trial) ours() Filter { return exact("type", t.typ()) }

func exact(name, value string) Filter { return Filter{"exact": map[string]string{name: value}} }

// message is an event by the members of the JSON format. The member data is a string; binary and json write it
// unchanged.
type message map[string]any

// event returns a new valid event of the trial.
func (t *trial) event() message {
	return message{
		"specversion": "1.0", "id": fmt.Sprintf("%s-%s-%d", t.run, t.id, t.next()),
		"source": "/conformance/" + t.run, "type": t.typ(),
	}
}

func (m message) id() string { return fmt.Sprint(m["id"]) }

// with returns a copy with the members set; the value nil removes a member.
func (m message) with(members ...any) message {
	out := maps.Clone(m)
	for i := 0; i < len(members); i += 2 {
		out[members[i].(string)] = members[i+1]
		if members[i+1] == nil {
			delete(out, members[i].(string))
		}
	}
	return out
}

// binary returns the message in the binary mode.
func (m message) binary() (http.Header, string) {
	h, body := http.Header{}, ""
	for name, value := range m {
		switch name {
		case "data":
			body = value.(string)
		case "datacontenttype":
			h.Set("Content-Type", value.(string))
		default:
			h.Set("Ce-"+name, percentEncode(fmt.Sprint(value)))
		}
	}
	return h, body
}

const structuredType = "application/cloudevents+json"

// json returns the message in the JSON format. Data that is valid JSON becomes a JSON value, other data a string.
func (m message) json() string {
	out := maps.Clone(m)
	if data, ok := m["data"].(string); ok && json.Valid([]byte(data)) && m["datacontenttype"] != "text/plain" {
		out["data"] = json.RawMessage(data)
	}
	text, err := json.Marshal(out)
	if err != nil {
		panic(err) // a mistake in a case
	}
	return string(text)
}

// response is an answer of the ingress or of the Subscriptions API.
type response struct {
	status int
	header http.Header
	body   string
}

func (r response) accepted() bool { return r.status >= 200 && r.status < 300 }
func (r response) refused() bool  { return r.status >= 400 && r.status < 500 }
func (r response) String() string {
	return strings.TrimSpace(fmt.Sprintf("%d %.200s", r.status, strings.TrimSpace(r.body)))
}

// request sends an HTTP request to any URL.
func (t *trial) request(method, url string, header http.Header, body string) (response, error) {
	ctx, release := t.lasts.Bind(context.Background())
	defer release()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return response{}, err
	}
	for _, from := range []http.Header{t.cfg.Header, header} {
		maps.Copy(r.Header, from)
	}
	answer, err := t.http.Do(r)
	if err != nil {
		return response{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	return response{answer.StatusCode, answer.Header, string(text)}, err
}

// post sends a request to the ingress.
func (t *trial) post(header http.Header, body string) response {
	r, err := t.request(http.MethodPost, t.cfg.URL, header, body)
	if err != nil {
		t.stop("an answer from the ingress", "%v", err)
	}
	return r
}

func contentType(value string) http.Header { return http.Header{"Content-Type": {value}} }

// send posts the event in the binary mode. It must be accepted.
func (t *trial) send(m message) {
	header, body := m.binary()
	if r := t.post(header, body); !r.accepted() {
		t.stop("a valid event is accepted with 2xx", "%v", r)
	}
}

// sendStructured posts the event in the structured mode. It must be accepted.
func (t *trial) sendStructured(m message) {
	if r := t.post(contentType(structuredType+"; charset=UTF-8"), m.json()); !r.accepted() {
		t.stop("a valid event in the structured mode is accepted with 2xx", "%v", r)
	}
}

// sink opens a subscriber without a trigger.
func (t *trial) sink(s script) *sink {
	return t.server.open(fmt.Sprintf("%s%d", t.path(), t.next()), s)
}

// deadLetterSink opens a sink for dead letters.
func (t *trial) deadLetterSink(s script) *sink {
	k := t.sink(s)
	k.what = "dead letters"
	return k
}

func (t *trial) path() string { return t.run + "/" + t.id + "/" }

// create makes a trigger, which cleanUp deletes after the trial.
func (t *trial) create(trigger Trigger) error {
	ctx, release := t.lasts.BindTimeout(context.Background(), 4*t.patience())
	defer release()
	id, err := t.cfg.Triggers.Create(ctx, trigger)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.triggers = append(t.triggers, id)
	t.mu.Unlock()
	return nil
}

// subscribe makes a trigger for the events of the trial that also pass the filters. It stops the trial when the
// broker refuses.
func (t *trial) subscribe(s script, d *Delivery, filters ...Filter) *sink {
	return t.subscribeTo(s, Trigger{Filters: append([]Filter{t.ours()}, filters...), Delivery: d})
}

func (t *trial) subscribeTo(s script, trigger Trigger) *sink {
	k := t.sink(s)
	trigger.Sink = k.url
	if err := t.create(trigger); err != nil {
		t.stop("the broker makes a trigger", "%v", err)
	}
	return k
}

// cleanUp deletes the triggers of the trial. A trigger that cannot be deleted is a failure.
func (t *trial) cleanUp() {
	t.server.closeSinks("/" + t.path())
	ctx, cancel := context.WithTimeout(context.Background(), t.patience())
	defer cancel()
	for _, id := range t.triggers {
		if err := t.cfg.Triggers.Delete(ctx, id); err != nil {
			t.fail("a trigger can be deleted", err.Error())
		}
	}
}

// await waits for n deliveries of the event to the sink, and stops the trial when they do not come. The id "" counts
// all deliveries.
func (t *trial) await(k *sink, id string, n int) []*delivery {
	limit := time.After(t.patience())
	for {
		got, changed := k.deliveries(id)
		if len(got) >= n {
			return got
		}
		select {
		case <-changed:
		case <-limit:
			t.stop(fmt.Sprintf("%s within %v: %d", k.what, t.patience(), n), "%d", len(got))
		case <-t.lasts.Done():
			t.stop("the run continues", "%v", context.Canceled)
		}
	}
}

// one waits for a delivery of the event, which must be a valid CloudEvent.
func (t *trial) one(k *sink, id string) *delivery {
	d := t.await(k, id, 1)[0]
	if d.event == nil {
		t.stop("the delivery is a CloudEvent", "%v", d.err)
	}
	return d
}

// waitQuiet waits a short time for deliveries that must not come.
func (t *trial) waitQuiet() {
	select {
	case <-time.After(t.quiet()):
	case <-t.lasts.Done():
	}
}

// never checks that the sink did not receive the event. The caller has waited for a later event before.
func (t *trial) never(k *sink, id, expected string) {
	got, _ := k.deliveries(id)
	t.check(len(got) == 0, expected, "%s: %d", k.what, len(got))
}

// each calls do for all values at once, because a cluster takes seconds to make a trigger.
func each[T any](t *trial, all []T, do func(T)) {
	var wg sync.WaitGroup
	ended := false
	var mu sync.Mutex
	for _, one := range all {
		wg.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					if r != stopped {
						panic(r)
					}
					mu.Lock()
					ended = true
					mu.Unlock()
				}
			}()
			do(one)
		})
	}
	wg.Wait()
	if ended {
		panic(stopped)
	}
}

// text returns an attribute of the delivered event in its canonical form.
func (d *delivery) text(name string) (string, bool) {
	e := d.event
	known := map[string]string{
		"specversion": e.SpecVersion(), "id": e.ID(), "source": e.Source(), "type": e.Type(), "subject": e.Subject(),
		"datacontenttype": e.DataContentType(), "dataschema": e.DataSchema(),
	}
	if name == "time" {
		return e.Time().UTC().Format(time.RFC3339Nano), !e.Time().IsZero()
	}
	if value, ok := known[name]; ok {
		return value, value != ""
	}
	value, ok := e.Extensions()[name]
	if !ok {
		return "", false
	}
	text, err := types.Format(value)
	return text, err == nil
}

// checkSame checks that the delivered event has the attributes and data of the sent one. It may have more attributes.
func (t *trial) checkSame(sent message, d *delivery) {
	for name, value := range sent {
		if name == "data" {
			same := bytes.Equal(d.event.Data(), []byte(value.(string))) || sameJSON(d.event.Data(), value.(string))
			t.check(same, fmt.Sprintf("the data as it was sent: %.80q", value), "%.80q", d.event.Data())
			continue
		}
		want := fmt.Sprint(value)
		if at, err := time.Parse(time.RFC3339Nano, want); err == nil && name == "time" {
			want = at.UTC().Format(time.RFC3339Nano)
		}
		got, _ := d.text(name)
		t.check(got == want, fmt.Sprintf("%s is %q as it was sent", name, want), "%q", got)
	}
}

func sameJSON(a []byte, b string) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	p, _ := json.Marshal(x)
	q, _ := json.Marshal(y)
	return bytes.Equal(p, q)
}

func ptr[T any](v T) *T { return &v }

// retries returns a delivery with n retries and short delays.
func retries(n int) *Delivery {
	return &Delivery{Retry: ptr(n), BackoffPolicy: "linear", BackoffDelay: "PT0.1S"}
}

// deadTo returns a copy of the delivery with k as its dead-letter sink.
func (d Delivery) deadTo(k *sink) *Delivery {
	d.DeadLetterSink = &Destination{k.url}
	return &d
}
