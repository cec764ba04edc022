package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/discovery/static"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// fixture is a gateway of the functions users, orders and views. A test chooses their handlers.
type fixture struct {
	*testing.T
	issuer   *auth.Issuer
	gateway  http.Handler
	mu       sync.Mutex // guards handlers: a part that came too late may still run
	handlers map[string]http.HandlerFunc
}

// handle sets the handler of a function.
func (f *fixture) handle(name string, h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handlers[name] = h
}

func (f *fixture) serve(name string, w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	h := f.handlers[name]
	f.mu.Unlock()
	h(w, r)
}

type input struct{}
type output struct{ Body map[string]any }

func nothing(context.Context, *function.Tx, *input) (*output, error) { return nil, nil }

// me is a composed answer.
var me = gateway.Composition{
	Path: "/api/me", OperationID: "get-me", Summary: "Everything about the caller", Parts: []gateway.Part{
		{Name: "user", Path: "/api/users/{subject}"},
		{Name: "orders", Path: "/api/orders"},
		{Name: "views", Path: "/api/views/orders"},
		{Name: "absent", Path: "/api/absent"},
	},
}

// systemOf returns the system of the functions.
func systemOf(functions ...*function.Function) manifest.System {
	var all manifest.System
	for _, f := range functions {
		all.Functions = append(all.Functions, f.Instance().Declaration())
	}
	return all
}

// declare returns a function with operations.
func declare(name string, operations ...function.Operation) *function.Function {
	f := function.New(name, function.Env{})
	for _, op := range operations {
		if strings.Contains(op.Path, "{") {
			function.Serve(f, op, func(context.Context, *function.Tx, *struct {
				ID string `path:"id"`
			}) (*output, error) {
				return nil, nil
			})
			continue
		}
		function.Serve(f, op, nothing)
	}
	return f
}

// newVerifier returns an issuer of tokens and what checks them.
func newVerifier(t testing.TB) (*auth.Issuer, *auth.Verifier) {
	t.Helper()
	keys, err := auth.GenerateKeyRing()
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := auth.NewVerifier(auth.VerifierConfig{Keys: keys.Public(), Issuer: "ebb", Audience: "ebb"})
	if err != nil {
		t.Fatal(err)
	}
	return auth.NewIssuer(keys, "ebb", "ebb", nil), verifier
}

func newFixture(t *testing.T, change ...func(*gateway.Config)) *fixture {
	t.Helper()
	f := &fixture{T: t, handlers: map[string]http.HandlerFunc{}}
	functions := []*function.Function{
		declare("users",
			function.Operation{Method: "GET", Path: "/api/users/{id}"},
			function.Operation{Method: "POST", Path: "/api/users", Access: function.Public, MaxBody: 100},
			function.Operation{Method: "GET", Path: "/api/users", Access: function.Only("admin")}),
		declare("orders", function.Operation{Method: "GET", Path: "/api/orders"}),
		declare("views", function.Operation{Method: "GET", Path: "/api/views/orders"}),
	}
	d := static.Discovery{}
	for _, fn := range functions {
		name := fn.Name()
		f.handlers[name] = func(w http.ResponseWriter, r *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]string{"function": name, "path": r.URL.Path, "method": r.Method})
		}
		d[name] = static.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.serve(name, w, r) }))
	}
	issuer, verifier := newVerifier(t)
	cfg := gateway.Config{
		System: systemOf(functions...), Discovery: d, Authenticator: verifier, Logger: slog.New(slog.DiscardHandler),
		Compositions: []gateway.Composition{me},
	}
	for _, c := range change {
		c(&cfg)
	}
	g, err := gateway.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.issuer, f.gateway = issuer, g
	return f
}

// grant is the content of a token of a customer.
func grant(subject string) auth.Grant { return auth.Grant{Subject: subject, TTL: time.Hour} }

func (f *fixture) token(roles ...string) string {
	f.Helper()
	token, _, err := f.issuer.Issue(auth.Grant{Subject: "ada", Roles: roles, TTL: time.Hour})
	if err != nil {
		f.Fatal(err)
	}
	return token
}

func (f *fixture) call(method, path, token string, body io.Reader, headers ...string) *httptest.ResponseRecorder {
	f.Helper()
	r := httptest.NewRequest(method, path, body)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	f.gateway.ServeHTTP(w, r)
	return w
}

// problem checks that an answer is a problem document of the status.
func (f *fixture) problem(w *httptest.ResponseRecorder, status int) {
	f.Helper()
	var p struct {
		Status int    `json:"status"`
		Title  string `json:"title"`
	}
	if w.Code != status || w.Header().Get("Content-Type") != "application/problem+json" {
		f.Errorf("got %d %s %s, want a problem of %d", w.Code, w.Header().Get("Content-Type"), w.Body, status)
		return
	}
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != status || p.Title == "" {
		f.Errorf("got the document %s, %v", w.Body, err)
	}
	if w.Header().Get("X-Request-Id") == "" {
		f.Error("no request id")
	}
}

// A request reaches its function if its path, method and caller are allowed, and is otherwise answered with the reason.
func TestRouting(t *testing.T) {
	f := newFixture(t)
	customer, admin := f.token("customer"), f.token("admin")
	forged := customer[:len(customer)-4] + "AAAA"
	tests := map[string]struct {
		method, path, token string
		status              int
	}{
		"a customer":                {"GET", "/api/users/1", customer, 200},
		"no credentials":            {"GET", "/api/users/1", "", 401},
		"a forged token":            {"GET", "/api/users/1", forged, 401},
		"a forged token, public":    {"POST", "/api/users", forged, 401},
		"no credentials, public":    {"POST", "/api/users", "", 200},
		"an admin":                  {"GET", "/api/users", admin, 200},
		"a customer, for admins":    {"GET", "/api/users", customer, 403},
		"an unknown path":           {"GET", "/api/nothing", admin, 404},
		"another method":            {"DELETE", "/api/users/1", admin, 405},
		"up and down again":         {"GET", "/api/users/../users/1", admin, 404},
		"an empty segment":          {"GET", "/api//users", admin, 404},
		"a slash at the end":        {"GET", "/api/users/", admin, 404},
		"an escaped slash":          {"GET", "/api/users/a%2Fb", admin, 200},
		"the root":                  {"GET", "/", "", 307},
		"the root's HEAD":           {"HEAD", "/", "", 307},
		"another method of it":      {"POST", "/", admin, 405},
		"a method in lower case":    {"get", "/api/users/1", admin, 405},
		"health, with a bad token":  {"GET", "/healthz", forged, 200},
		"readiness":                 {"GET", "/readyz", "", 200},
		"the path of deliveries":    {"POST", "/events", admin, 404},
		"the body of HEAD is GET's": {"HEAD", "/api/users/1", customer, 200},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f.T = t
			w := f.call(test.method, test.path, test.token, nil)
			if test.status >= 400 {
				f.problem(w, test.status)
			} else if w.Code != test.status {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, test.status)
			}
			if challenge := w.Header().Get("WWW-Authenticate"); (test.status == 401) != strings.HasPrefix(challenge, "Bearer") {
				t.Errorf("WWW-Authenticate is %q", challenge)
			}
		})
	}
}

func TestAnotherMethodIsToldTheAllowedOnes(t *testing.T) {
	f := newFixture(t)
	w := f.call("PUT", "/api/users", "", nil)
	f.problem(w, 405)
	if got, want := w.Header().Get("Allow"), "GET, HEAD, OPTIONS, POST"; got != want {
		t.Errorf("Allow is %q, want %q", got, want)
	}
	if w = f.call("OPTIONS", "/api/users", "", nil); w.Code != 204 || w.Header().Get("Allow") == "" {
		t.Errorf("OPTIONS: %d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
}

// A request keeps its id if it is valid, and the function gets the same id as the caller.
func TestRequestIDs(t *testing.T) {
	f := newFixture(t)
	long := strings.Repeat("a", 129)
	for given, kept := range map[string]bool{"": false, "abc-1.2_3": true, "a b": false, long: false, "a\"b": false} {
		var seen string
		f.handle("users", func(_ http.ResponseWriter, r *http.Request) { seen = r.Header.Get("X-Request-Id") })
		w := f.call("POST", "/api/users", "", nil, "X-Request-Id", given)
		got := w.Header().Get("X-Request-Id")
		if got != seen || got == "" || (got == given) != kept {
			t.Errorf("%q: answered %q, seen %q", given, got, seen)
		}
	}
}

func TestBodies(t *testing.T) {
	f := newFixture(t)
	f.handle("users", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	})
	f.problem(f.call("POST", "/api/users", "", strings.NewReader(strings.Repeat("a", 101))), 413)
	if w := f.call("POST", "/api/users", "", strings.NewReader(strings.Repeat("a", 100))); w.Code != 200 {
		t.Errorf("a body at the limit: %d", w.Code)
	}
	// A body of unknown length is cut off at the limit.
	endless := io.MultiReader(strings.NewReader(strings.Repeat("a", 101)))
	if w := f.call("POST", "/api/users", "", endless); w.Code != 413 {
		t.Errorf("a body of unknown length: %d", w.Code)
	}
}

func TestAPanicIsAProblem(t *testing.T) {
	f := newFixture(t)
	f.handle("users", func(http.ResponseWriter, *http.Request) { panic("secret") })
	w := f.call("POST", "/api/users", "", nil)
	f.problem(w, 500)
	if strings.Contains(w.Body.String(), "secret") {
		t.Errorf("the cause shows: %s", w.Body)
	}
}

// A composed answer names what is missing, and does not wait for it longer than a second.
func TestComposition(t *testing.T) {
	f := newFixture(t)
	f.problem(f.call("GET", "/api/me", "", nil), 401)

	type composed struct {
		User    map[string]string `json:"user"`
		Orders  map[string]string `json:"orders"`
		Views   map[string]string `json:"views"`
		Missing []string          `json:"missing"`
	}
	ask := func() (got composed) {
		t.Helper()
		w := f.call("GET", "/api/me", f.token("customer"), nil)
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
			t.Fatalf("%d %s: %v", w.Code, w.Body, err)
		}
		return got
	}
	if got := ask(); got.User["path"] != "/api/users/ada" || got.Orders["path"] != "/api/orders" || len(got.Missing) != 0 {
		t.Errorf("got %+v", got)
	}
	f.handle("orders", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	f.handle("views", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	began := time.Now()
	got := ask()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	if got.User == nil || got.Orders != nil || strings.Join(got.Missing, " ") != "orders views" {
		t.Errorf("got %+v", got)
	}
	f.handle("users", func(http.ResponseWriter, *http.Request) { panic("down") })
	f.problem(f.call("GET", "/api/me", f.token("customer"), nil), 503)
}

func TestDocuments(t *testing.T) {
	f := newFixture(t)
	var openAPI struct {
		OpenAPI string                    `json:"openapi"`
		Paths   map[string]map[string]any `json:"paths"`
	}
	w := f.call("GET", "/openapi.json", "", nil)
	if err := json.Unmarshal(w.Body.Bytes(), &openAPI); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(openAPI.OpenAPI, "3.1") || openAPI.Paths["/api/users/{id}"]["get"] == nil {
		t.Errorf("got %s", w.Body)
	}
	if again := f.call("GET", "/openapi.json", "", nil, "If-None-Match", w.Header().Get("ETag")); again.Code != 304 {
		t.Errorf("with its ETag: %d", again.Code)
	}
	if w = f.call("GET", "/asyncapi.json", "", nil); !bytes.Contains(w.Body.Bytes(), []byte(`"asyncapi": "3.0.0"`)) {
		t.Errorf("asyncapi: %d", w.Code)
	}
	w = f.call("GET", "/docs", "", nil)
	policy := w.Header().Get("Content-Security-Policy")
	if w.Code != 200 || !strings.Contains(policy, "script-src 'sha256-") || strings.Contains(policy, "unsafe") {
		t.Errorf("docs: %d, %s", w.Code, policy)
	}
	if root := f.call("GET", "/", "", nil); root.Header().Get("Location") != "/docs" {
		t.Errorf("the root leads to %q", root.Header().Get("Location"))
	}
	// An empty list of requirements is a public operation.
	if security := openAPI.Paths["/api/users"]["post"].(map[string]any)["security"]; fmt.Sprint(security) != "[]" {
		t.Errorf("a public operation has the security %v", security)
	}
	lock := `op.security&&op.security.length?el("span",{className:"lock"},"needs a token")`
	if !strings.Contains(w.Body.String(), lock) {
		t.Error("docs do not tell public operations from others")
	}
	for _, outside := range []string{"http://", "https://", "//cdn"} {
		if strings.Contains(w.Body.String(), outside) {
			t.Errorf("docs name %s, but should load nothing from other servers", outside)
		}
	}
}

// Only the scripts of listed origins may read answers, and never with credentials. They may use the methods that the
// path has.
func TestOrigins(t *testing.T) {
	f := newFixture(t, func(cfg *gateway.Config) {
		cfg.Origins = []string{"https://shop.example", " https://other.example/"}
		cfg.System = systemOf(declare("users",
			function.Operation{Method: "POST", Path: "/api/users", Access: function.Public},
			function.Operation{Method: "PATCH", Path: "/api/users/{id}", Access: function.Public}))
	})
	ask := func(method, path, origin, wanted string, headers ...string) *httptest.ResponseRecorder {
		headers = append(headers, "Origin", origin)
		if method == "OPTIONS" {
			headers = append(headers, "Access-Control-Request-Method", wanted)
		}
		return f.call(method, path, "", nil, headers...)
	}
	for _, origin := range []string{"https://shop.example", "https://other.example"} {
		w := ask("POST", "/api/users", origin, "")
		h := w.Header()
		if w.Code != 200 || h.Get("Access-Control-Allow-Origin") != origin || h.Get("Vary") != "Origin" ||
			!strings.Contains(h.Get("Access-Control-Expose-Headers"), "retry-after") {
			t.Errorf("listed: %d %v", w.Code, h)
		}
	}
	if h := f.call("POST", "/api/users", "", nil).Header(); h.Get("Vary") != "Origin" {
		t.Errorf("without an origin: %v", h) // a cache would give it to scripts
	}
	w := ask("GET", "/api/nothing", "https://shop.example", "")
	if f.problem(w, 404); w.Header().Get("Access-Control-Allow-Origin") == "" {
		t.Errorf("a problem cannot be read: %v", w.Header())
	}

	fields := []string{"Access-Control-Request-Headers", "authorization,content-type,idempotency-key"}
	w = ask("OPTIONS", "/api/users/1", "https://shop.example", "PATCH", fields...)
	h := w.Header()
	if w.Code != 204 || h.Get("Access-Control-Allow-Origin") != "https://shop.example" ||
		h.Get("Access-Control-Allow-Methods") != "PATCH" || h.Get("Access-Control-Allow-Credentials") != "" ||
		h.Get("Access-Control-Allow-Headers") != fields[1] || h.Get("Access-Control-Max-Age") != "600" {
		t.Errorf("preflight: %d %v", w.Code, h)
	}
	for name, w := range map[string]*httptest.ResponseRecorder{
		"a method of another path": ask("OPTIONS", "/api/users", "https://shop.example", "PATCH"),
		"a field that is not sent": ask("OPTIONS", "/api/users", "https://shop.example", "POST",
			"Access-Control-Request-Headers", "x-evil"),
		"a path that is not":         ask("OPTIONS", "/api/nothing", "https://shop.example", "PATCH"),
		"another origin":             ask("POST", "/api/users", "https://evil.example", ""),
		"another origin, before":     ask("OPTIONS", "/api/users/1", "https://evil.example", "PATCH"),
		"an origin that is longer":   ask("POST", "/api/users", "https://shop.example.evil.example", ""),
		"another scheme":             ask("POST", "/api/users", "http://shop.example", ""),
		"another port":               ask("POST", "/api/users", "https://shop.example:8443", ""),
		"no origin, as from a file":  ask("POST", "/api/users", "null", ""),
		"an origin in capitals":      ask("POST", "/api/users", "https://SHOP.example", ""),
		"an origin with a name, too": ask("POST", "/api/users", "https://ada@shop.example", ""),
	} {
		h := w.Header()
		if h.Get("Access-Control-Allow-Methods") != "" || h.Get("Access-Control-Allow-Headers") != "" ||
			!strings.Contains(name, "of another path") && !strings.Contains(name, "not sent") &&
				h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %d %v", name, w.Code, h)
		}
	}
}

// All origins may be allowed, and an origin that no browser sends is an error.
func TestAnyOrigin(t *testing.T) {
	f := newFixture(t, func(cfg *gateway.Config) { cfg.Origins = []string{"*"} })
	h := f.call("POST", "/api/users", "", nil, "Origin", "https://any.example").Header()
	if h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("got %v", h)
	}
	for _, origin := range []string{"null", "shop.example", "https://shop.example/api", "https://shop.example:443"} {
		_, err := gateway.New(gateway.Config{Origins: []string{origin}})
		if err == nil || !strings.Contains(err.Error(), origin) {
			t.Errorf("%s: got %v", origin, err)
		}
	}
}

func TestInvalidConfig(t *testing.T) {
	op := function.Operation{Method: "GET", Path: "/api/things"}
	twice := systemOf(declare("one", op), declare("two", op))
	d := static.Discovery{"one": nil, "two": nil}
	_, err := gateway.New(gateway.Config{System: twice, Discovery: d})
	if err == nil || !strings.Contains(err.Error(), "duplicate route") {
		t.Errorf("a path of two functions: got %v", err)
	}
	for _, path := range []string{
		"/", "/api/things/", "/api//things", "/api/./things", "/api/things/../{id}", "/api/{$}",
	} {
		strange := manifest.System{Functions: []*manifest.Declaration{{Function: manifest.Function{
			Name: "one", Routes: []manifest.Route{{Method: "POST", Path: path}},
		}}}}
		if _, err := gateway.New(gateway.Config{System: strange, Discovery: d}); err == nil ||
			!strings.Contains(err.Error(), "invalid route") {
			t.Errorf("the path %q, which no request can have: got %v", path, err)
		}
	}
	delete(d, "two")
	unknown := systemOf(declare("one", op), declare("two", function.Operation{Method: "POST", Path: "/api/things"}))
	_, err = gateway.New(gateway.Config{System: unknown, Discovery: d})
	if err == nil || !strings.Contains(err.Error(), `"two"`) {
		t.Errorf("a function that discovery does not know: got %v", err)
	}
}

// A gateway adds little to each request. The rest of the time is the token check.
func BenchmarkGateway(b *testing.B) {
	issuer, verifier := newVerifier(b)
	token, _, err := issuer.Issue(auth.Grant{Subject: "ada", Roles: []string{"customer"}, TTL: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	users := static.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	g, err := gateway.New(gateway.Config{
		System:    systemOf(declare("users", function.Operation{Method: "GET", Path: "/api/users/{id}"})),
		Discovery: static.Discovery{"users": users}, Authenticator: verifier,
	})
	if err != nil {
		b.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/api/users/01920000-0000-7000-8000-000000000001", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	b.ReportAllocs()
	for b.Loop() {
		g.ServeHTTP(&sink{header: http.Header{}}, r)
	}
}

type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }

// prewarmer is a discovery that notes which functions are started.
type prewarmer struct {
	static.Discovery
	started []string
}

func (p *prewarmer) Prewarm(names ...string) { p.started = append(p.started, names...) }

type order struct {
	ID string `json:"id"`
}

var (
	shop          = event.NewNamespace("com.example.shop", "https://shop.example.com/schemas")
	orderPlaced   = event.Define(shop, "orders.placed", 1, event.Fact, "An order was placed.", order{ID: "o"})
	reserve       = event.Define(shop, "inventory.reserve", 1, event.Command, "Set stock aside.", order{ID: "o"})
	stockReserved = event.Define(shop, "inventory.reserved", 1, event.Fact, "Stock is set aside.", order{ID: "o"})
	letterFailed  = event.Define(shop, "notifications.failed", 1, event.Fact, "A letter will not be sent.", order{ID: "o"})
)

// A request that changes something starts the functions that exchange events with its function in both directions, and
// no others: not those that only consume, or only emit.
func TestPrewarm(t *testing.T) {
	declared := func(name string, consumes func(*function.Function), emits ...event.Typed) *function.Function {
		path := "/api/" + name
		f := declare(name, function.Operation{Method: "POST", Path: path, Access: function.Public},
			function.Operation{Method: "GET", Path: path, Access: function.Public})
		consumes(f)
		function.Emits(f, emits...)
		return f
	}
	reserved := func(f *function.Function) { on(f, stockReserved) }
	functions := []*function.Function{
		declared("orders", reserved, reserve.Info(), orderPlaced.Info()),
		declared("inventory", func(f *function.Function) { on(f, reserve) }, stockReserved.Info()),
		declared("notifications", func(f *function.Function) { on(f, orderPlaced) }, letterFailed.Info()),
		declared("audit", reserved, stockReserved.Info()),
	}
	d := &prewarmer{Discovery: static.Discovery{}}
	for _, f := range functions {
		d.Discovery[f.Name()] = static.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	}
	g, err := gateway.New(gateway.Config{System: systemOf(functions...), Discovery: d})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/api/orders", "[]"},
		{"POST", "/api/notifications", "[]"},
		{"POST", "/api/inventory", "[orders]"},
		{"POST", "/api/orders", "[inventory]"},
	} {
		d.started = nil
		g.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(c.method, c.path, nil))
		if got := fmt.Sprint(d.started); got != c.want {
			t.Errorf("%s %s starts %s, want %s", c.method, c.path, got, c.want)
		}
	}
	// A canary of the function exchanges the same events.
	d.Discovery["next"] = d.Discovery["orders"]
	document := "operations: {POST /api/orders: {split: [{function: next, header: {X-Canary: '*'}}]}}"
	if err := g.Configure("f", []byte(document)); err != nil {
		t.Fatal(err)
	}
	d.started = nil
	r := httptest.NewRequest("POST", "/api/orders", nil)
	r.Header.Set("X-Canary", "yes")
	g.ServeHTTP(httptest.NewRecorder(), r)
	if got := fmt.Sprint(d.started); got != "[inventory]" {
		t.Errorf("a canary starts %s, want [inventory]", got)
	}
}

func on[T any](f *function.Function, t event.Type[T]) {
	function.On(f, t, func(context.Context, *function.Tx, T) error { return nil })
}

// A path is matched as the function's own mux matches it, whatever of it is percent-encoded: otherwise policies would
// see another route than the function serves. A segment that is a dot or two when decoded matches nothing.
func TestEncodedPaths(t *testing.T) {
	var seen string
	note := func(next gateway.Handler) gateway.Handler {
		return func(x *gateway.Exchange) { seen = x.Route.Path; next(x) }
	}
	system := systemOf(declare("notes",
		function.Operation{Method: "GET", Path: "/api/notes/{id}", Access: function.Public},
		function.Operation{Method: "GET", Path: "/api/notes/secret"},
		function.Operation{Method: "GET", Path: "/api/notizen/größe", Access: function.Public}))
	f := newFixture(t, func(cfg *gateway.Config) {
		cfg.System, cfg.Policies = system, []gateway.Middleware{note}
		h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
		cfg.Discovery = static.Discovery{"notes": static.Handler(h)}
	})
	for path, want := range map[string]string{
		"/api/notes/secret":            "/api/notes/secret",
		"/api/notes/s%65cret":          "/api/notes/secret",
		"/api/%6Eotes/secret":          "/api/notes/secret",
		"/api/notes/a%2Fb":             "/api/notes/{id}",
		"/api/notizen/gr%c3%b6%c3%9fe": "/api/notizen/größe",
		"/api/notizen/gr%C3%B6%C3%9Fe": "/api/notizen/größe",
		"/api/notes%2Fsecret":          "",
		"/api/notes/%2e%2e":            "",
		"/api/notes/%2E":               "",
		"/api/notes/secret/":           "",
		"/api//notes/secret":           "",
	} {
		seen = ""
		f.call("GET", path, f.token("customer"), nil)
		if seen != want {
			t.Errorf("%s is the route %q, want %q", path, seen, want)
		}
	}
	f.problem(f.call("GET", "/api/notes/s%65cret", "", nil), 401)
}
