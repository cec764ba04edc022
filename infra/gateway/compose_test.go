package gateway_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/discovery/static"
	"github.com/ebb-dev/ebb/infra/gateway"
)

// composed is an option that declares the parts of GET /api/me.
func composed(parts ...gateway.Part) func(*gateway.Config) {
	return func(cfg *gateway.Config) { cfg.Compositions = []gateway.Composition{{Path: "/api/me", Parts: parts}} }
}

// A part is optional, has a fallback or is required, and has a deadline of its own.
func TestParts(t *testing.T) {
	user := gateway.Part{Name: "user", Path: "/api/users/{subject}", Required: true, Timeout: time.Minute}
	orders := gateway.Part{
		Name: "orders", Path: "/api/orders", Fallback: json.RawMessage(`{"items":[]}`), Timeout: time.Minute,
	}
	views := gateway.Part{Name: "views", Path: "/api/views/orders"}
	ok := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("1")) }
	fails := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }
	hangs := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() } // until its own deadline, or the end
	for i, c := range []struct {
		user, orders, views http.HandlerFunc
		timeout             time.Duration // of views
		status              int
		body                string
	}{
		{ok, ok, ok, time.Minute, 200, `{"missing":[],"orders":1,"user":1,"views":1}`},
		{ok, fails, ok, time.Minute, 200, `{"missing":["orders"],"orders":{"items":[]},"user":1,"views":1}`},
		{ok, ok, hangs, time.Millisecond, 200, `{"missing":["views"],"orders":1,"user":1}`},
		{ok, fails, hangs, time.Millisecond, 200, `{"missing":["orders","views"],"orders":{"items":[]},"user":1}`},
		{fails, hangs, ok, time.Minute, 503, "the part user of this answer is not available"},
	} {
		views.Timeout = c.timeout
		f := newFixture(t, composed(orders, user, views))
		f.handle("users", c.user)
		f.handle("orders", c.orders)
		f.handle("views", c.views)
		w := f.call("GET", "/api/me", f.token(), nil)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%d: got %d %s, want %d %s", i, w.Code, w.Body, c.status, c.body)
		}
	}
}

// The subject of a token, which another issuer may have chosen, is one segment of a part's path and leads nowhere else.
func TestPartOfAnySubject(t *testing.T) {
	for _, subject := range []string{"ada", "a/b", "a/../../orders", "50%", "a?b#c", "ü b"} {
		f := newFixture(t, composed(gateway.Part{Name: "user", Path: "/api/users/{subject}", Timeout: time.Minute}))
		var got string
		mux := http.NewServeMux()
		mux.HandleFunc("GET /api/users/{id}", func(w http.ResponseWriter, r *http.Request) {
			got = r.PathValue("id")
			_, _ = w.Write([]byte("1"))
		})
		f.handle("users", mux.ServeHTTP)
		token, _, err := f.issuer.Issue(grant(subject))
		if err != nil {
			t.Fatal(err)
		}
		if w := f.call("GET", "/api/me", token, nil); w.Code != 200 || got != subject {
			t.Errorf("got %d %s with the id %q, want %q", w.Code, w.Body, got, subject)
		}
	}
}

// Parts that are not valid are an error of the gateway.
func TestPartsRefused(t *testing.T) {
	for want, p := range map[string]gateway.Part{
		"another name": {Name: "missing", Path: "/api/orders"},
		"zero or more": {Name: "a", Path: "/api/orders", Timeout: -1},
		"want JSON":    {Name: "a", Path: "/api/orders", Fallback: json.RawMessage("{")},
		"not both":     {Name: "a", Path: "/api/orders", Fallback: json.RawMessage("{}"), Required: true},
	} {
		_, err := gateway.New(gateway.Config{
			System: systemOf(declare("a")), Discovery: static.Discovery{},
			Compositions: []gateway.Composition{{Path: "/api/me", Parts: []gateway.Part{p}}},
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

// Whoever may not call the operation of a part in this environment does not get it in a composed answer or an export,
// nor one that the host of the request does not have.
func TestPartsThatTheCallerMayNotHave(t *testing.T) {
	for document, want := range map[string]string{
		"{}": `{"missing":[],"orders":1,"user":1}`,
		"operations: {GET /api/orders: {roles: [admin]}}":              `{"missing":["orders"],"user":1}`,
		"operations: {GET /api/orders: {hosts: [internal.example]}}":   `{"missing":["orders"],"user":1}`,
		"operations: {GET /api/orders: {hosts: [example.com]}}":        `{"missing":[],"orders":1,"user":1}`,
		"operations: {'GET /api/users/{id}': {roles: [admin, staff]}}": `{"missing":["user"],"orders":1}`,
	} {
		f := newFixture(t, composed(
			gateway.Part{Name: "user", Path: "/api/users/{subject}", Timeout: time.Minute},
			gateway.Part{Name: "orders", Path: "/api/orders", Timeout: time.Minute}))
		for _, name := range []string{"users", "orders"} {
			f.handle(name, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("1")) })
		}
		f.configure(document)
		w := f.call("GET", "/api/me", f.token(), nil)
		if got := strings.TrimSpace(w.Body.String()); got != want {
			t.Errorf("%s: got %d %s, want %s", document, w.Code, got, want)
		}
	}
}

// A part is not asked for while the breaker of its operation is open, or more than it takes are under way, and it ends
// with the timeout of its operation.
func TestPartsAreShed(t *testing.T) {
	f := newFixture(t, composed(
		gateway.Part{Name: "user", Path: "/api/users/{subject}", Timeout: time.Minute},
		gateway.Part{Name: "orders", Path: "/api/orders", Timeout: time.Minute}))
	f.handle("users", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("1")) })
	f.configure("operations: {GET /api/orders: {timeout: 1ms, breaker: {failures: 0.5, requests: 2, pause: 1m}}}")
	called := 0
	f.handle("orders", func(w http.ResponseWriter, r *http.Request) {
		called++
		<-r.Context().Done()
		w.WriteHeader(http.StatusGatewayTimeout)
	})
	for range 4 {
		w := f.call("GET", "/api/me", f.token(), nil)
		if got := strings.TrimSpace(w.Body.String()); got != `{"missing":["orders"],"user":1}` {
			t.Errorf("got %s", got)
		}
	}
	if called != 2 {
		t.Errorf("the function was called %d times, want 2", called)
	}
	f.refused(f.call("GET", "/api/orders", f.token(), nil), "60")
}

// A part that is slower than the composed answer waits for opens no breaker.
func TestPartThatIsLate(t *testing.T) {
	f := newFixture(t, composed(gateway.Part{Name: "user", Path: "/api/users/{subject}", Timeout: time.Millisecond}))
	f.configure("operations: {'GET /api/users/{id}': {breaker: {failures: 0.5, requests: 1, pause: 1m}}}")
	f.handle("users", func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		w.WriteHeader(http.StatusGatewayTimeout)
	})
	f.problem(f.call("GET", "/api/me", f.token(), nil), http.StatusServiceUnavailable)
	f.handle("users", func(http.ResponseWriter, *http.Request) {})
	if w := f.call("GET", "/api/users/ada", f.token(), nil); w.Code != http.StatusOK {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

// What the gateway serves itself has hosts, a breaker and limits of load as other operations have.
func TestCompositionIsShed(t *testing.T) {
	const breaker = "{breaker: {failures: 0.5, requests: 1, pause: 1m}}"
	f := newFixture(t, personal, composed(gateway.Part{Name: "orders", Path: "/api/orders", Timeout: time.Minute}))
	f.configure("operations: {GET /api/me: " + breaker + ", 'GET /api/persons/{id}/export': " + breaker + "}")
	for _, name := range []string{"users", "orders"} {
		f.handle(name, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	}
	for _, path := range []string{"/api/me", "/api/persons/ada/export"} {
		f.refused(f.call("GET", path, f.token(), nil), "1")
		f.refused(f.call("GET", path, f.token(), nil), "60")
	}
	f.configure("operations: {'GET /api/persons/{id}/export': {hosts: [a.example]}, GET /api/settings/gateway: " +
		"{hosts: [a.example]}, GET /api/me: {hosts: [a.example]}}")
	for _, path := range []string{"/api/me", "/api/persons/ada/export", "/api/settings/gateway"} {
		f.problem(f.call("GET", path, f.token("admin"), nil), http.StatusNotFound)
	}
}
