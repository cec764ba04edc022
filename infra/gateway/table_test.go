package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/discovery/static"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/policy"
)

// configure sets the policies of the gateway.
func (f *fixture) configure(document string) {
	f.Helper()
	if err := f.gateway.(*gateway.Gateway).Configure("policy.yaml", []byte(document)); err != nil {
		f.Fatal(err)
	}
}

// with returns an option that adds a function with operations to the system of a fixture, which h serves.
func with(name string, h http.HandlerFunc, operations ...function.Operation) func(*gateway.Config) {
	return func(cfg *gateway.Config) {
		cfg.System = manifest.System{
			Functions: append(cfg.System.Functions, systemOf(declare(name, operations...)).Functions...),
		}
		cfg.Discovery.(static.Discovery)[name] = static.Handler(h)
	}
}

// A policy comes from the defaults of the file, from the declaration of the operation or from the file's entry for the
// operation; the later one holds. The next file begins anew.
func TestConfigure(t *testing.T) {
	f := newFixture(t, with("answers", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(strings.Repeat("a", 20)))
	},
		function.Operation{
			Method: "GET", Path: "/api/declared", Access: function.Public, Policy: policy.Policy{MaxAnswer: 15},
		},
		function.Operation{Method: "GET", Path: "/api/plain", Access: function.Public}))
	status := func(path string) (code int) {
		defer func() {
			if cause := recover(); cause != nil {
				if cause != http.ErrAbortHandler {
					panic(cause)
				}
				code = 0 // broken off: the length was not declared
			}
		}()
		return f.call("GET", path, "", nil).Code
	}
	for _, c := range []struct {
		document        string
		declared, plain int
	}{
		{"", 0, 200},
		{"defaults: {max_answer: 30}", 0, 200},
		{"defaults: {max_answer: 10}", 0, 0},
		{"defaults: {max_answer: 10}\noperations: {GET /api/declared: {max_answer: 30}}", 200, 0},
		{`{"operations": {"GET /api/declared": {"max_answer": 0}}}`, 200, 200},
		{"{}", 0, 200},
	} {
		f.configure(c.document)
		if a, b := status("/api/declared"), status("/api/plain"); a != c.declared || b != c.plain {
			t.Errorf("%q: got %d and %d, want %d and %d", c.document, a, b, c.declared, c.plain)
		}
	}
}

// A file can ask callers for more than the operation does, and for smaller bodies.
func TestConfigureNarrows(t *testing.T) {
	f := newFixture(t)
	f.configure(`
operations:
  POST /api/users: {access: authenticated, max_body: 10}
  GET /api/users/{id}: {roles: [support, admin]}
`)
	f.problem(f.call("POST", "/api/users", "", nil), 401)
	f.problem(f.call("POST", "/api/users", f.token(), strings.NewReader(strings.Repeat("a", 11))), 413)
	f.problem(f.call("GET", "/api/users/1", f.token("customer"), nil), 403)
	for _, w := range []*httptest.ResponseRecorder{
		f.call("POST", "/api/users", f.token(), strings.NewReader(strings.Repeat("a", 10))),
		f.call("GET", "/api/users/1", f.token("support"), nil),
	} {
		if w.Code != 200 {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	}
}

// A file with a fault is refused as a whole, every fault is named with its line, and the policies before still hold.
func TestConfigureRefuses(t *testing.T) {
	f := newFixture(t)
	f.configure("operations: {POST /api/users: {max_body: 10}}")
	for _, c := range [][2]string{
		{"operations:\n  POST /api/users: {max_body: 50}\n  POST /api/user: {}",
			`3: operations.POST /api/user: unknown entry (did you mean "POST /api/users"?)`},
		{"operations: {GET /healthz: {}}", "1: operations.GET /healthz: unknown entry"},
		{"rate: 3", "1: rate: unknown field"},
		{"defaults: {timeout: -1s}", "1: defaults.timeout: want a duration of zero or more"},
		{"defaults: {timeout: 3}", "1: defaults.timeout: want a duration such as 500ms, 30s or 1h"},
		{"defaults:\n  max_answer: -1", "2: defaults.max_answer: want a number of bytes of zero or more"},
		{"operations:\n  POST /api/users:\n    max_body: 101",
			"3: operations.POST /api/users.max_body: want 1 to 100 bytes, which the function takes"},
		{"operations:\n  GET /api/users/{id}:\n    access: public",
			"3: operations.GET /api/users/{id}.access: want authenticated or more, which the function asks for"},
		{"operations: {GET /api/orders: {access: all}}",
			"1: operations.GET /api/orders.access: want public, authenticated, roles"},
		{"operations: {GET /api/orders: {access: roles}}",
			"1: operations.GET /api/orders.roles: want roles with the access roles, and only with it"},
		{"operations:\n  GET /api/users: {roles: [admin,\n      root]}",
			"2: operations.GET /api/users.roles: the function does not let the role root call this"},
		{"operations:\n  GET /api/orders:\n    timeout: -2s\n    max_answer: -2",
			"3: operations.GET /api/orders.timeout: want a duration of zero or more\n" +
				"policy.yaml:4: operations.GET /api/orders.max_answer: want a number of bytes of zero or more"},
	} {
		err := f.gateway.(*gateway.Gateway).Configure("policy.yaml", []byte(c[0]))
		if want := "policy.yaml:" + c[1]; err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", c[0], err, want)
		}
		f.problem(f.call("POST", "/api/users", "", strings.NewReader(strings.Repeat("a", 11))), 413)
	}
}

// A declared policy that is not valid is an error of the gateway.
func TestDeclaredPolicyIsChecked(t *testing.T) {
	op := function.Operation{Method: "GET", Path: "/api/a", Policy: policy.Policy{Timeout: -1, MaxAnswer: -1}}
	_, err := gateway.New(gateway.Config{
		System: systemOf(declare("a", op)), Discovery: static.Discovery{"a": static.Handler(http.NotFoundHandler())},
	})
	for _, want := range []string{"GET /api/a: invalid policy: timeout: ", "max_answer: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

// A request that began before a change keeps its policies, one that begins after it has the new ones, and none is lost.
func TestConfigureWhileServing(t *testing.T) {
	f := newFixture(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	f.handle("orders", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Wait") != "" {
			close(entered)
			<-leave
		}
		w.Header().Set("Content-Length", "2")
		_, _ = w.Write([]byte("{}"))
	})
	token := f.token()
	old := make(chan int)
	go func() { old <- f.call("GET", "/api/orders", token, nil, "X-Wait", "1").Code }()
	<-entered
	f.configure("operations: {GET /api/orders: {max_answer: 1}}")
	f.problem(f.call("GET", "/api/orders", token, nil), 502)
	close(leave)
	if got := <-old; got != 200 {
		t.Errorf("the request that began before got %d", got)
	}

	f.configure("{}")
	var running sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if w := f.call("GET", "/api/orders", token, nil); w.Code != 200 {
					t.Errorf("a request was answered %d %s", w.Code, w.Body)
				}
			}
		})
	}
	for i := range 100 {
		f.configure(fmt.Sprintf("operations: {GET /api/orders: {max_answer: %d}}", 100+i))
	}
	close(stop)
	running.Wait()
}

// A function that takes longer than the operation's timeout is answered 504, in this process and in another one.
func TestTimeout(t *testing.T) {
	waits := func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		if errors.Is(r.Context().Err(), context.DeadlineExceeded) {
			w.WriteHeader(http.StatusGatewayTimeout)
		}
	}
	remote := httptest.NewServer(http.HandlerFunc(waits))
	defer remote.Close()
	address, err := url.Parse(remote.URL)
	if err != nil {
		t.Fatal(err)
	}
	short := policy.Policy{Timeout: policy.Duration(time.Millisecond)}
	f := newFixture(t,
		with("near", waits, function.Operation{Method: "GET", Path: "/api/near", Access: function.Public, Policy: short}),
		with("far", nil, function.Operation{Method: "GET", Path: "/api/far", Access: function.Public, Policy: short}),
		func(cfg *gateway.Config) {
			cfg.Discovery.(static.Discovery)["far"] = []discovery.Instance{{ID: "far", Address: address}}
		})
	if w := f.call("GET", "/api/near", "", nil); w.Code != http.StatusGatewayTimeout {
		t.Errorf("near: got %d", w.Code)
	}
	f.problem(f.call("GET", "/api/far", "", nil), http.StatusGatewayTimeout)
}

// An answer with a declared length over the limit is 502, without what described its content.
func TestMaxAnswer(t *testing.T) {
	f := newFixture(t, with("a", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Content-Length", r.Header.Get("X-Length"))
		_, _ = w.Write([]byte(strings.Repeat("a", len(r.Header.Get("X-Length")))))
	}, function.Operation{Method: "GET", Path: "/api/a", Access: function.Public, Policy: policy.Policy{MaxAnswer: 10}}))
	if w := f.call("GET", "/api/a", "", nil, "X-Length", "10"); w.Code != 200 || w.Header().Get("ETag") == "" {
		t.Errorf("10 bytes: got %d %v", w.Code, w.Header())
	}
	w := f.call("GET", "/api/a", "", nil, "X-Length", "11")
	f.problem(w, 502)
	if w.Header().Get("ETag") != "" {
		t.Errorf("the header is %v", w.Header())
	}
}
