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
)

// trial is one case while it runs.
type trial struct {
	*suite
	ctx context.Context
	id  string

	mu       sync.Mutex
	n        int // names what the trial makes
	triggers []string
	faults   []Fault
	skipped  string
}

// stopped is what a trial panics with that cannot go on.
var stopped = new(int)

// fail notes a difference.
func (t *trial) fail(expected, seen string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults = append(t.faults, Fault{expected, seen})
}

// check notes a difference unless ok.
func (t *trial) check(ok bool, expected, seen string, args ...any) {
	if !ok {
		t.fail(expected, fmt.Sprintf(seen, args...))
	}
}

// stop ends the trial with a difference.
func (t *trial) stop(expected, seen string, args ...any) {
	t.fail(expected, fmt.Sprintf(seen, args...))
	panic(stopped)
}

// skip ends the trial because it cannot tell.
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

// typ is the event type of the trial: it is nobody else's.
func (t *trial) typ() string { return "dev.ebb.conformance." + t.run + "." + t.id }

// ours lets the events of the trial pass only.
func (t *trial) ours() Filter { return exact("type", t.typ()) }

func exact(name, value string) Filter { return Filter{"exact": map[string]string{name: value}} }

// message is an event in the members of the JSON format. The member data is a string, written as it is.
type message map[string]any

// event is a valid event of the trial.
func (t *trial) event() message {
	return message{
		"specversion": "1.0", "id": fmt.Sprintf("%s-%s-%d", t.run, t.id, t.next()),
		"source": "/conformance/" + t.run, "type": t.typ(),
	}
}

func (m message) id() string { return fmt.Sprint(m["id"]) }

// with is a copy in which the members are set; nil takes one away.
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

// binary is the message in the binary mode.
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

// json is the message in the JSON format. Data that is JSON is written as JSON.
func (m message) json() string {
	out := maps.Clone(m)
	if data, ok := m["data"].(string); ok && json.Valid([]byte(data)) && m["datacontenttype"] != "text/plain" {
		out["data"] = json.RawMessage(data)
	}
	text, err := json.Marshal(out)
	if err != nil {
		panic(err) // a trial is written wrongly
	}
	return string(text)
}

// response is what the ingress, or the Subscriptions API, answered.
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

// request sends anything anywhere.
func (t *trial) request(method, url string, header http.Header, body string) (response, error) {
	r, err := http.NewRequestWithContext(t.ctx, method, url, strings.NewReader(body))
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

// sink is a subscriber that has no trigger yet.
func (t *trial) sink(s script) *sink {
	return t.server.open(fmt.Sprintf("%s%d", t.path(), t.next()), s)
}

// tomb is a dead-letter sink.
func (t *trial) tomb(s script) *sink {
	k := t.sink(s)
	k.what = "dead letters"
	return k
}

func (t *trial) path() string { return t.run + "/" + t.id + "/" }

// create makes a trigger, which is taken away after the trial.
func (t *trial) create(trigger Trigger) error {
	ctx, cancel := context.WithTimeout(t.ctx, 4*t.patience())
	defer cancel()
	id, err := t.cfg.Triggers.Create(ctx, trigger)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.triggers = append(t.triggers, id)
	t.mu.Unlock()
	return nil
}

// subscribe makes a trigger for the events of the trial that pass the filters too. It must be taken.
func (t *trial) subscribe(s script, d *Delivery, filters ...Filter) *sink {
	return t.subscribeTo(s, Trigger{Filters: append([]Filter{t.ours()}, filters...), Delivery: d})
}

func (t *trial) subscribeTo(s script, trigger Trigger) *sink {
	k := t.sink(s)
	trigger.Sink = k.url
	if err := t.create(trigger); err != nil {
		t.stop("a trigger is made", "%v", err)
	}
	return k
}

// cleanUp takes the triggers of the trial away. What stays behind does no harm, but is told.
func (t *trial) cleanUp() {
	t.server.shut("/" + t.path())
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), t.patience())
	defer cancel()
	for _, id := range t.triggers {
		if err := t.cfg.Triggers.Delete(ctx, id); err != nil {
			t.fail("a trigger can be deleted", err.Error())
		}
	}
}

// await waits for n deliveries of the event to the sink; "": of any. They must come.
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
		case <-t.ctx.Done():
			t.stop("time enough", "%v", t.ctx.Err())
		}
	}
}

// one waits for a delivery, and for its being an event.
func (t *trial) one(k *sink, id string) *delivery {
	d := t.await(k, id, 1)[0]
	if d.event == nil {
		t.stop("what is delivered is a CloudEvent", "%v", d.fault)
	}
	return d
}

// settle gives what must not happen the time to happen.
func (t *trial) settle() {
	select {
	case <-time.After(t.quiet()):
	case <-t.ctx.Done():
	}
}

// never checks that the sink was not handed the event. The trial has waited for something later before.
func (t *trial) never(k *sink, id, expected string) {
	got, _ := k.deliveries(id)
	t.check(len(got) == 0, expected, "%s: %d", k.what, len(got))
}

// each does it for all, at once; triggers take a while on a cluster.
func each[T any](t *trial, all []T, do func(T)) {
	var wg sync.WaitGroup
	over := false
	var mu sync.Mutex
	for _, one := range all {
		wg.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					if r != stopped {
						panic(r)
					}
					mu.Lock()
					over = true
					mu.Unlock()
				}
			}()
			do(one)
		})
	}
	wg.Wait()
	if over {
		panic(stopped)
	}
}

// text is an attribute of what was delivered, in its canonical form.
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

// checkSame checks that what was sent is what came. Attributes may have been added.
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

// retries is a delivery with so many quick retries.
func retries(n int) *Delivery {
	return &Delivery{Retry: ptr(n), BackoffPolicy: "linear", BackoffDelay: "PT0.1S"}
}

// deadTo is the delivery with a dead-letter sink.
func (d Delivery) deadTo(k *sink) *Delivery {
	d.DeadLetterSink = &Destination{k.url}
	return &d
}
