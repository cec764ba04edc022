package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/policy"
)

// catalog is a gateway of a function with products, whose answers the event "changed" invalidates.
func catalog(t *testing.T, change ...func(*gateway.Config)) *cached {
	c := &cached{clock: newClock()}
	h := func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.calls++
		fmt.Fprint(w, r.URL.Path, " ", c.calls)
	}
	one := policy.Policy{Cache: &policy.Cache{
		TTL: policy.Duration(time.Hour), InvalidatedByEvents: []policy.CacheEvent{{Type: "changed", Subject: "id"}},
	}}
	all := policy.Policy{Cache: &policy.Cache{
		TTL: policy.Duration(time.Hour), InvalidatedByEvents: []policy.CacheEvent{{Type: "changed"}},
	}}
	change = append(change, func(cfg *gateway.Config) { cfg.Now, cfg.Events = c.Now, []string{"changed", "other"} },
		with("catalog", h,
			function.Operation{Method: "GET", Path: "/api/products/{id}", Access: function.Public, Policy: one},
			function.Operation{Method: "GET", Path: "/api/products", Access: function.Public, Policy: all}))
	c.fixture = newFixture(t, change...)
	return c
}

func changed(subject string) ce.Event {
	e := ce.New()
	e.SetType("changed")
	e.SetSubject(subject)
	return e
}

func (c *cached) receive(events ...ce.Event) {
	c.Helper()
	for i, result := range c.gateway.(*gateway.Gateway).Receive(c.Context(), events) {
		if !result.OK() {
			c.Errorf("event %d: got %+v", i, result)
		}
	}
}

// An event invalidates the answers about its subject, however the path is written, and those of the operations that it
// is about as a whole. One that comes twice or late costs a fetch, and one of another type nothing.
func TestEventsInvalidate(t *testing.T) {
	c := catalog(t)
	for _, path := range []string{"/api/products", "/api/products/a", "/api/products/b%20c", "/api/products/b%20%63"} {
		c.get(path)
	}
	other := changed("a")
	other.SetType("other")
	c.receive(other, changed("unknown"))
	c.want(c.get("/api/products/a"), "/api/products/a 2 hit")
	c.want(c.get("/api/products"), "/api/products 5 fwd=miss; stored")
	c.receive(changed("a"))
	c.want(c.get("/api/products/a"), "/api/products/a 6 fwd=miss; stored")
	c.want(c.get("/api/products"), "/api/products 7 fwd=miss; stored")
	c.want(c.get("/api/products/b%20c"), "/api/products/b c 3 hit")
	c.receive(changed("b c"), changed("b c"))
	c.receive(changed("b c"))
	c.want(c.get("/api/products/b%20%63"), "/api/products/b c 8 fwd=miss; stored")
	c.want(c.get("/api/products/b%20c"), "/api/products/b c 9 fwd=miss; stored")
	c.want(c.get("/api/products/a"), "/api/products/a 6 hit")
}

// An event that never comes leaves an answer of before until its time is over, and no longer.
func TestLostEvent(t *testing.T) {
	c := catalog(t)
	c.get("/api/products/a")
	c.now = c.now.Add(time.Hour - time.Nanosecond)
	c.want(c.get("/api/products/a"), "/api/products/a 1 hit")
	c.now = c.now.Add(time.Nanosecond)
	c.want(c.get("/api/products/a"), "/api/products/a 2 fwd=miss; stored")
}

// An event is not done while the store cannot carry it out: the broker delivers it again.
func TestEventWhileStoreIsAway(t *testing.T) {
	store := &awayStore{err: errors.New("away")}
	c := catalog(t, func(cfg *gateway.Config) { cfg.Cache = store })
	got := c.gateway.(*gateway.Gateway).Receive(t.Context(), []ce.Event{changed("a")})
	if len(got) != 1 || got[0].Status != http.StatusServiceUnavailable {
		t.Errorf("got %+v", got)
	}
	store.err = nil
	c.receive(changed("a"))
}

// An event without a subject may be about any of the answers.
func TestEventWithoutSubject(t *testing.T) {
	c := catalog(t)
	c.get("/api/products/a")
	c.receive(changed(""))
	c.want(c.get("/api/products/a"), "/api/products/a 2 fwd=miss; stored")
}

// A backlog of events costs one call of the store, however many come at once.
func TestEventsInvalidateTogether(t *testing.T) {
	store := &countingStore{}
	c := catalog(t, func(cfg *gateway.Config) { cfg.Cache = store })
	events := make([]ce.Event, 100)
	for i := range events {
		events[i] = changed(fmt.Sprint(i % 50))
	}
	c.receive(events...)
	if len(store.tags) != 1 || len(store.tags[0]) != 51 {
		t.Errorf("got %d calls with %d tags", len(store.tags), len(slices.Concat(store.tags...)))
	}
}

// countingStore notes the tags of each call of Invalidate.
type countingStore struct {
	recordingStore
	tags [][]string
}

func (s *countingStore) Invalidate(_ context.Context, tags ...string) error {
	s.tags = append(s.tags, tags)
	return nil
}

// Answers of before an operation was closed are not given when it is opened again: what changed meanwhile has
// invalidated none of them.
func TestClosedMeanwhile(t *testing.T) {
	c := catalog(t)
	c.get("/api/products/a")
	c.get("/api/products")
	c.configure("operations: {'GET /api/products/{id}': {access: authenticated}}")
	c.receive(changed("b"))
	c.configure("{}")
	c.want(c.get("/api/products/a"), "/api/products/a 3 fwd=miss; stored")
	c.configure("operations: {'GET /api/products': {timeout: 1s}}")
	c.want(c.get("/api/products/a"), "/api/products/a 3 hit")
}

// Only events that the gateway consumes, and parameters that the path has, can be declared.
func TestEventsRefused(t *testing.T) {
	c := catalog(t)
	const of = "invalidated_by_events[0]"
	for document, want := range map[string]string{
		"{type: mistyped}":               of + ".type: want a type of event that the gateway consumes: changed, other",
		"{type: changed, subject: name}": of + ".subject: want a parameter of the operation's path",
	} {
		document = "operations: {'GET /api/products/{id}': {cache: {invalidated_by_events: [" + document + "]}}}"
		err := c.gateway.(*gateway.Gateway).Configure("f", []byte(document))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", document, err)
		}
	}
}
