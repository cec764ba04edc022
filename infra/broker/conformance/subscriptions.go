package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
)

// SubscriptionsAPI makes triggers through the CloudEvents Subscriptions API over HTTP. It writes Knative's delivery
// options into the subscription's config.
type SubscriptionsAPI struct {
	URL    string       // the URL of the collection, such as http://127.0.0.1:8081/subscriptions
	Header http.Header  // is added to every request, for example Authorization
	Client *http.Client // nil: a client with a timeout of one minute
}

var _ Triggers = (*SubscriptionsAPI)(nil)

var defaultClient = &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 32,
	IdleConnTimeout: idle}}

// Create implements Triggers.
func (a *SubscriptionsAPI) Create(ctx context.Context, t Trigger) (string, error) {
	body := map[string]any{"sink": t.Sink, "protocol": "HTTP"}
	filters := t.Filters
	if len(t.Attributes) > 0 {
		filters = append([]Filter{{"exact": t.Attributes}}, filters...)
	}
	if len(filters) > 0 {
		body["filters"] = filters
	}
	if t.Delivery != nil {
		body["config"] = t.Delivery
	}
	var made struct {
		ID string `json:"id"`
	}
	err := a.call(ctx, http.MethodPost, a.URL, body, &made)
	if err == nil && made.ID == "" {
		err = fault.New(fault.Internal, "missing id in the new subscription")
	}
	return made.ID, err
}

// Delete implements Triggers.
func (a *SubscriptionsAPI) Delete(ctx context.Context, id string) error {
	return a.call(ctx, http.MethodDelete, a.URL+"/"+url.PathEscape(id), nil, nil)
}

// MissingFeatures implements Triggers.
func (*SubscriptionsAPI) MissingFeatures() map[Feature]string { return nil }

func (a *SubscriptionsAPI) call(ctx context.Context, method, address string, in, out any) error {
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(string(text)))
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "invalid Subscriptions API URL %q", address)
	}
	for name, values := range a.Header {
		r.Header[name] = values
	}
	r.Header.Set("Content-Type", "application/json")
	client := a.Client
	if client == nil {
		client = defaultClient
	}
	answer, err := client.Do(r)
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "no Subscriptions API answers at %s", a.URL)
	}
	defer answer.Body.Close()
	text, err = io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	switch {
	case err != nil:
		return fault.Wrap(err, fault.Unavailable, "incomplete response of the Subscriptions API")
	case answer.StatusCode >= 500:
		return fault.New(fault.Unavailable, "%s %s: %d %.200s", method, address, answer.StatusCode, text)
	case answer.StatusCode >= 300:
		return Refused{answer.StatusCode, fmt.Sprintf("%.300s", text)}
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fault.Wrap(err, fault.Internal, "invalid JSON in a response of the Subscriptions API")
	}
	return nil
}

const sectionAPI = "CloudEvents Subscriptions API, 3.2.5 and 3.3: operations over HTTP"

// subscriptionCases returns the cases for the API itself: create, retrieve, query and delete. The API is a draft.
func subscriptionCases() []Case {
	c := func(id string, level Level, sentence string, run func(*trial, *SubscriptionsAPI)) Case {
		return Case{ID: id, Section: sectionAPI, Level: level, Sentence: sentence, Needs: []Feature{Subscriptions},
			run: func(t *trial) {
				api, ok := t.cfg.Triggers.(*SubscriptionsAPI)
				if !ok {
					t.skip("triggers are not made through the Subscriptions API")
				}
				run(t, api)
			}}
	}
	return []Case{
		c("api-create", Should, "creating a subscription answers with the realized one, whose id the manager chose",
			apiCreate),
		c("api-retrieve", Must, "a subscription can be retrieved by its id", apiRetrieve),
		c("api-query", Should, "the collection lists the subscriptions", apiQuery),
		c("api-delete", Should, "a deleted subscription is found no more, and its sink receives nothing more", apiDelete),
		c("api-unknown", Must, "an id that no subscription has is not found", apiUnknown),
		c("api-sink", Must, "a subscription without a sink, or with one that is no address of the protocol, is refused",
			apiSink),
		c("api-protocol", Must, "a delivery protocol that the manager does not speak is refused", apiProtocol),
		c("api-types", Must, "only events that match source and types pass", apiTypes),
	}
}

// ask sends a request to the API with the driver's header fields. The map is the response's JSON object, or nil.
func (a *SubscriptionsAPI) ask(t *trial, method, id string, in any) (response, map[string]any) {
	address, body := a.URL, ""
	if id != "" {
		address += "/" + url.PathEscape(id)
	}
	if in != nil {
		text, _ := json.Marshal(in)
		body = string(text)
	}
	header := a.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set("Content-Type", "application/json")
	r, err := t.request(method, address, header, body)
	if err != nil {
		t.stop("an answer from the Subscriptions API", "%v", err)
	}
	var out map[string]any
	_ = json.Unmarshal([]byte(r.body), &out) // out stays nil when the body is no JSON object
	return r, out
}

func (a *SubscriptionsAPI) make(t *trial, sink string) (id string, made map[string]any) {
	r, made := a.ask(t, http.MethodPost, "", map[string]any{
		"id": "mine", "sink": sink, "protocol": "HTTP", "filters": []Filter{t.ours()},
	})
	id, _ = made["id"].(string)
	if !r.accepted() || id == "" {
		t.stop("2xx and a subscription with an id", "%v", r)
	}
	return id, made
}

func apiCreate(t *trial, api *SubscriptionsAPI) {
	k := t.sink(nil)
	id, made := api.make(t, k.url)
	defer api.ask(t, http.MethodDelete, id, nil)
	t.check(id != "mine", "the id in the request is ignored", "%q", id)
	t.check(made["sink"] == k.url, "the sink that was asked for", "%v", made["sink"])
	t.check(made["protocol"] == "HTTP", "the protocol that was asked for", "%v", made["protocol"])
}

func apiRetrieve(t *trial, api *SubscriptionsAPI) {
	k := t.sink(nil)
	id, _ := api.make(t, k.url)
	defer api.ask(t, http.MethodDelete, id, nil)
	r, got := api.ask(t, http.MethodGet, id, nil)
	t.check(r.status == http.StatusOK && got["id"] == id && got["sink"] == k.url, "200 with the id and the sink", "%v", r)
	filters, _ := json.Marshal(got["filters"])
	want, _ := json.Marshal([]Filter{t.ours()})
	t.check(string(filters) == string(want), "the filters "+string(want), "%s", filters)
}

func apiQuery(t *trial, api *SubscriptionsAPI) {
	id, _ := api.make(t, t.sink(nil).url)
	defer api.ask(t, http.MethodDelete, id, nil)
	r, _ := api.ask(t, http.MethodGet, "", nil)
	t.check(r.status == http.StatusOK && strings.Contains(r.body, id), "200 and a list with "+id, "%v", r)
}

func apiDelete(t *trial, api *SubscriptionsAPI) {
	k, control := t.sink(nil), t.subscribe(nil, nil)
	id, _ := api.make(t, k.url)
	first := t.event()
	t.send(first)
	t.one(k, first.id())
	r, _ := api.ask(t, http.MethodDelete, id, nil)
	t.check(r.accepted(), "deleting answers 2xx", "%v", r)
	r, _ = api.ask(t, http.MethodGet, id, nil)
	t.check(r.status == http.StatusNotFound, "404 afterwards", "%v", r)
	second := t.event()
	t.send(second)
	t.await(control, second.id(), 1)
	t.waitQuiet()
	t.never(k, second.id(), "no delivery after the subscription was deleted")
}

func apiUnknown(t *trial, api *SubscriptionsAPI) {
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		r, _ := api.ask(t, method, "unknown-"+t.run, nil)
		t.check(r.status == http.StatusNotFound, method+" answers 404", "%v", r)
	}
}

// refuses checks that the API refuses a subscription, and deletes it when the API accepts it.
func (a *SubscriptionsAPI) refuses(t *trial, what string, in map[string]any) {
	r, made := a.ask(t, http.MethodPost, "", in)
	t.check(r.refused(), what+" is refused with 4xx", "%v", r)
	if id, _ := made["id"].(string); r.accepted() && id != "" {
		a.ask(t, http.MethodDelete, id, nil)
	}
}

func apiSink(t *trial, api *SubscriptionsAPI) {
	api.refuses(t, "no sink", map[string]any{"protocol": "HTTP"})
	api.refuses(t, "a relative sink", map[string]any{"protocol": "HTTP", "sink": "/here"})
	api.refuses(t, "a sink of another protocol", map[string]any{"protocol": "HTTP", "sink": "mailto:me@example.com"})
}

func apiProtocol(t *trial, api *SubscriptionsAPI) {
	sink := t.sink(nil).url
	api.refuses(t, "no protocol", map[string]any{"sink": sink})
	api.refuses(t, "an unknown protocol", map[string]any{"sink": sink, "protocol": "PIGEON"})
	api.refuses(t, "a protocol in the wrong case", map[string]any{"sink": sink, "protocol": "http"})
}

func apiTypes(t *trial, api *SubscriptionsAPI) {
	k, control := t.sink(nil), t.subscribe(nil, nil)
	source := "/conformance/" + t.run
	r, made := api.ask(t, http.MethodPost, "", map[string]any{
		"sink": k.url, "protocol": "HTTP", "source": source, "types": []string{t.typ(), t.typ() + ".more"},
	})
	id, _ := made["id"].(string)
	if !r.accepted() {
		t.stop("source and types are taken", "%v", r)
	}
	defer api.ask(t, http.MethodDelete, id, nil)
	first, more, last := t.event(), t.event().with("type", t.typ()+".more"), t.event()
	other, elsewhere := t.event().with("type", t.typ()+".other"), t.event().with("source", source+"/elsewhere")
	for _, m := range []message{first, other, elsewhere, more, last} {
		t.send(m)
	}
	for _, m := range []message{first, more, last} {
		t.await(k, m.id(), 1)
	}
	t.await(control, last.id(), 1)
	t.waitQuiet()
	t.never(k, other.id(), "an event of another type is not delivered")
	t.never(k, elsewhere.id(), "an event of another source is not delivered")
}
