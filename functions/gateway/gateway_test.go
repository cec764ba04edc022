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

	"github.com/ebb-dev/ebb/infra/manifest"

	"github.com/ebb-dev/ebb/functions/gateway"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
)

// world is a gateway before a function called users, whose handler a test chooses.
type world struct {
	*testing.T
	issuer  *auth.Issuer
	handler http.Handler
	mu      sync.Mutex // a part that came too late may still be looking
	behind  map[string]http.HandlerFunc
}

// answers chooses what a function does.
func (w *world) answers(name string, h http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.behind[name] = h
}

func (w *world) serve(name string, rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	h := w.behind[name]
	w.mu.Unlock()
	h(rw, r)
}

type input struct{}
type output struct{ Body map[string]any }

func nothing(context.Context, *function.Tx, *input) (*output, error) { return nil, nil }

// gatewayOf returns the gateway of the functions as a handler.
func gatewayOf(
	env function.Env, parts []gateway.Part, directory discovery.Discovery, functions ...*function.Function,
) (http.Handler, error) {
	env.Discovery = directory
	constructor := gateway.Config{Parts: parts}.New
	own, err := function.Declare(constructor)
	if err != nil {
		return nil, err
	}
	all := manifest.System{Functions: []*manifest.Declaration{own}}
	for _, f := range functions {
		all.Functions = append(all.Functions, f.Instance().Declaration())
	}
	env.System = func() manifest.System { return all }
	f, err := constructor(env)
	if err != nil {
		return nil, err
	}
	return f.Instance(), nil
}

// parts are what the composed answer has.
var parts = []gateway.Part{
	{Name: "user", Path: "/api/users/{subject}"},
	{Name: "orders", Path: "/api/orders"},
	{Name: "views", Path: "/api/views/orders"},
}

func described(name string, operations ...function.Operation) *function.Function {
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

func newWorld(t *testing.T, vars map[string]string) *world {
	t.Helper()
	keys, err := auth.GenerateKeyRing()
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := auth.NewVerifier(auth.VerifierConfig{Keys: keys.Public(), Issuer: "ebb", Audience: "ebb"})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, issuer: auth.NewIssuer(keys, "ebb", "ebb", nil), behind: map[string]http.HandlerFunc{}}
	functions := []*function.Function{
		described("users",
			function.Operation{Method: "GET", Path: "/api/users/{id}"},
			function.Operation{Method: "POST", Path: "/api/users", Access: function.Public, MaxBody: 100},
			function.Operation{Method: "GET", Path: "/api/users", Access: function.Only("admin")}),
		described("orders", function.Operation{Method: "GET", Path: "/api/orders"}),
		described("views", function.Operation{Method: "GET", Path: "/api/views/orders"}),
	}
	directory := discovery.Static{}
	for _, f := range functions {
		name := f.Name()
		w.behind[name] = func(rw http.ResponseWriter, r *http.Request) {
			_ = json.NewEncoder(rw).Encode(map[string]string{"function": name, "path": r.URL.Path, "method": r.Method})
		}
		directory[name] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.serve(name, rw, r) })
	}
	env := function.Env{Authenticator: verifier, Lookup: config.Map(vars), Logger: slog.New(slog.DiscardHandler)}
	if w.handler, err = gatewayOf(env, parts, directory, functions...); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) token(roles ...string) string {
	w.Helper()
	token, _, err := w.issuer.Issue(auth.Grant{Subject: "ada", Roles: roles, TTL: time.Hour})
	if err != nil {
		w.Fatal(err)
	}
	return token
}

func (w *world) call(method, path, token string, body io.Reader, headers ...string) *httptest.ResponseRecorder {
	w.Helper()
	r := httptest.NewRequest(method, path, body)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	return rec
}

// problem checks that an answer is a problem document of the status.
func (w *world) problem(rec *httptest.ResponseRecorder, status int) {
	w.Helper()
	var p struct {
		Status int    `json:"status"`
		Title  string `json:"title"`
	}
	if rec.Code != status || rec.Header().Get("Content-Type") != "application/problem+json" {
		w.Errorf("got %d %s %s, want a problem of %d", rec.Code, rec.Header().Get("Content-Type"), rec.Body, status)
		return
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || p.Status != status || p.Title == "" {
		w.Errorf("got the document %s, %v", rec.Body, err)
	}
	if rec.Header().Get("X-Request-Id") == "" {
		w.Error("no request id")
	}
}

// Who gets through, and what those hear who do not.
func TestTheDoor(t *testing.T) {
	w := newWorld(t, nil)
	customer, admin := w.token("customer"), w.token("admin")
	forged := customer[:len(customer)-4] + "AAAA"
	tests := map[string]struct {
		method, path, token string
		status              int
	}{
		"a customer":                {"GET", "/api/users/1", customer, 200},
		"nobody":                    {"GET", "/api/users/1", "", 401},
		"a forged token":            {"GET", "/api/users/1", forged, 401},
		"a forged token, for all":   {"POST", "/api/users", forged, 401},
		"nobody, for all":           {"POST", "/api/users", "", 200},
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
		"the events of a knative":   {"POST", "/events", admin, 404},
		"the body of HEAD is GET's": {"HEAD", "/api/users/1", customer, 200},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w.T = t
			rec := w.call(test.method, test.path, test.token, nil)
			if test.status >= 400 {
				w.problem(rec, test.status)
			} else if rec.Code != test.status {
				t.Errorf("got %d %s, want %d", rec.Code, rec.Body, test.status)
			}
			if challenge := rec.Header().Get("WWW-Authenticate"); (test.status == 401) != strings.HasPrefix(challenge, "Bearer") {
				t.Errorf("WWW-Authenticate is %q", challenge)
			}
		})
	}
}

func TestAWrongMethodIsToldTheRightOnes(t *testing.T) {
	w := newWorld(t, nil)
	rec := w.call("PUT", "/api/users", "", nil)
	w.problem(rec, 405)
	if got, want := rec.Header().Get("Allow"), "GET, HEAD, OPTIONS, POST"; got != want {
		t.Errorf("Allow is %q, want %q", got, want)
	}
	if rec = w.call("OPTIONS", "/api/users", "", nil); rec.Code != 204 || rec.Header().Get("Allow") == "" {
		t.Errorf("OPTIONS: %d, Allow %q", rec.Code, rec.Header().Get("Allow"))
	}
}

// A request keeps its id if it is one, and the function sees what the caller gets.
func TestRequestIDs(t *testing.T) {
	w := newWorld(t, nil)
	for given, kept := range map[string]bool{"": false, "abc-1.2_3": true, "a b": false, strings.Repeat("a", 129): false, "a\"b": false} {
		var seen string
		w.answers("users", func(_ http.ResponseWriter, r *http.Request) { seen = r.Header.Get("X-Request-Id") })
		rec := w.call("POST", "/api/users", "", nil, "X-Request-Id", given)
		got := rec.Header().Get("X-Request-Id")
		if got != seen || got == "" || (got == given) != kept {
			t.Errorf("%q: answered %q, seen %q", given, got, seen)
		}
	}
}

func TestBodies(t *testing.T) {
	w := newWorld(t, nil)
	w.answers("users", func(rw http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			rw.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	})
	w.problem(w.call("POST", "/api/users", "", strings.NewReader(strings.Repeat("a", 101))), 413)
	if rec := w.call("POST", "/api/users", "", strings.NewReader(strings.Repeat("a", 100))); rec.Code != 200 {
		t.Errorf("a body at the limit: %d", rec.Code)
	}
	// One that does not say how long it is is cut off.
	endless := io.MultiReader(strings.NewReader(strings.Repeat("a", 101)))
	if rec := w.call("POST", "/api/users", "", endless); rec.Code != 413 {
		t.Errorf("a body of unknown length: %d", rec.Code)
	}
}

func TestAPanicIsAProblem(t *testing.T) {
	w := newWorld(t, nil)
	w.answers("users", func(http.ResponseWriter, *http.Request) { panic("secret") })
	rec := w.call("POST", "/api/users", "", nil)
	w.problem(rec, 500)
	if strings.Contains(rec.Body.String(), "secret") {
		t.Errorf("the cause shows: %s", rec.Body)
	}
}

// A composed answer names what is missing, and does not wait for it longer than a second.
func TestMe(t *testing.T) {
	w := newWorld(t, nil)
	w.problem(w.call("GET", "/api/me", "", nil), 401)

	type me struct {
		User    map[string]string `json:"user"`
		Orders  map[string]string `json:"orders"`
		Views   map[string]string `json:"views"`
		Missing []string          `json:"missing"`
	}
	ask := func() (got me) {
		t.Helper()
		rec := w.call("GET", "/api/me", w.token("customer"), nil)
		if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil || rec.Code != 200 {
			t.Fatalf("%d %s: %v", rec.Code, rec.Body, err)
		}
		return got
	}
	if got := ask(); got.User["path"] != "/api/users/ada" || got.Orders["path"] != "/api/orders" || len(got.Missing) != 0 {
		t.Errorf("got %+v", got)
	}
	w.answers("orders", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(503) })
	w.answers("views", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	began := time.Now()
	got := ask()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	if got.User == nil || got.Orders != nil || strings.Join(got.Missing, " ") != "orders views" {
		t.Errorf("got %+v", got)
	}
	w.answers("users", func(http.ResponseWriter, *http.Request) { panic("down") })
	w.problem(w.call("GET", "/api/me", w.token("customer"), nil), 503)
}

func TestDocuments(t *testing.T) {
	w := newWorld(t, nil)
	var openAPI struct {
		OpenAPI string                    `json:"openapi"`
		Paths   map[string]map[string]any `json:"paths"`
	}
	rec := w.call("GET", "/openapi.json", "", nil)
	if err := json.Unmarshal(rec.Body.Bytes(), &openAPI); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(openAPI.OpenAPI, "3.1") || openAPI.Paths["/api/users/{id}"]["get"] == nil || openAPI.Paths["/api/me"] == nil {
		t.Errorf("got %s", rec.Body)
	}
	if again := w.call("GET", "/openapi.json", "", nil, "If-None-Match", rec.Header().Get("ETag")); again.Code != 304 {
		t.Errorf("with its ETag: %d", again.Code)
	}
	if rec = w.call("GET", "/asyncapi.json", "", nil); !bytes.Contains(rec.Body.Bytes(), []byte(`"asyncapi": "3.0.0"`)) {
		t.Errorf("asyncapi: %d", rec.Code)
	}
	rec = w.call("GET", "/docs", "", nil)
	if policy := rec.Header().Get("Content-Security-Policy"); rec.Code != 200 || !strings.Contains(policy, "script-src 'sha256-") || strings.Contains(policy, "unsafe") {
		t.Errorf("docs: %d, %s", rec.Code, policy)
	}
	if root := w.call("GET", "/", "", nil); root.Header().Get("Location") != "/docs" {
		t.Errorf("the root leads to %q", root.Header().Get("Location"))
	}
	// An empty list of requirements is a public operation.
	if security := openAPI.Paths["/api/users"]["post"].(map[string]any)["security"]; fmt.Sprint(security) != "[]" {
		t.Errorf("a public operation has the security %v", security)
	}
	if !strings.Contains(rec.Body.String(), `op.security&&op.security.length?el("span",{className:"lock"},"needs a token")`) {
		t.Error("docs do not tell public operations from others")
	}
	for _, outside := range []string{"http://", "https://", "//cdn"} {
		if strings.Contains(rec.Body.String(), outside) {
			t.Errorf("docs speak of %s, but should need nothing from elsewhere", outside)
		}
	}
}

// Only the scripts of listed origins may read answers, and never with credentials.
func TestOrigins(t *testing.T) {
	w := newWorld(t, map[string]string{"EBB_CORS_ORIGINS": "https://shop.example"})
	ask := func(method, origin string) http.Header {
		return w.call(method, "/api/users", "", nil, "Origin", origin, "Access-Control-Request-Method", "POST").Header()
	}
	if h := ask("POST", "https://shop.example"); h.Get("Access-Control-Allow-Origin") != "https://shop.example" || h.Get("Vary") != "Origin" {
		t.Errorf("listed: %v", h)
	}
	if h := ask("OPTIONS", "https://shop.example"); !strings.Contains(h.Get("Access-Control-Allow-Methods"), "POST") || h.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("preflight: %v", h)
	}
	for _, method := range []string{"POST", "OPTIONS"} {
		if h := ask(method, "https://evil.example"); h.Get("Access-Control-Allow-Origin") != "" || h.Get("Access-Control-Allow-Methods") != "" {
			t.Errorf("another's %s: %v", method, h)
		}
	}
}

func TestAPathServedTwiceIsRefused(t *testing.T) {
	op := function.Operation{Method: "GET", Path: "/api/things"}
	functions := []*function.Function{described("one", op), described("two", op)}
	directory := discovery.Static{"one": http.NotFoundHandler(), "two": http.NotFoundHandler()}
	if _, err := gatewayOf(function.Env{}, nil, directory, functions...); err == nil {
		t.Error("it was accepted")
	}
}

// The door costs little: it is on the way of every request.
func BenchmarkDoor(b *testing.B) {
	keys, _ := auth.GenerateKeyRing()
	verifier, _ := auth.NewVerifier(auth.VerifierConfig{Keys: keys.Public(), Issuer: "ebb", Audience: "ebb"})
	token, _, _ := auth.NewIssuer(keys, "ebb", "ebb", nil).Issue(auth.Grant{Subject: "ada", Roles: []string{"customer"}, TTL: time.Hour})
	f := described("users", function.Operation{Method: "GET", Path: "/api/users/{id}"})
	directory := discovery.Static{"users": http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	g, err := gatewayOf(function.Env{Authenticator: verifier}, nil, directory, f)
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

// waking is a directory that writes down who is woken.
type waking struct {
	discovery.Static
	woken []string
}

func (w *waking) Wake(names ...string) { w.woken = append(w.woken, names...) }

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

// A request that changes something wakes those who converse with the function by events, and no others: not who only
// listens, not who only speaks.
func TestWakesPartners(t *testing.T) {
	declared := func(name string, hears func(*function.Function), says ...event.Typed) *function.Function {
		f := described(name, function.Operation{Method: "POST", Path: "/api/" + name, Access: function.Public}, function.Operation{Method: "GET", Path: "/api/" + name, Access: function.Public})
		hears(f)
		function.Emits(f, says...)
		return f
	}
	reserved := func(f *function.Function) { on(f, stockReserved) }
	d := &waking{Static: discovery.Static{}}
	functions := []*function.Function{
		declared("orders", reserved, reserve.Info(), orderPlaced.Info()),
		declared("inventory", func(f *function.Function) { on(f, reserve) }, stockReserved.Info()),
		declared("notifications", func(f *function.Function) { on(f, orderPlaced) }, letterFailed.Info()),
		declared("audit", reserved, stockReserved.Info()),
	}
	for _, f := range functions {
		d.Static[f.Name()] = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	}
	g, err := gatewayOf(function.Env{}, nil, d, functions...)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/api/orders", "[]"}, {"POST", "/api/notifications", "[]"}, {"POST", "/api/inventory", "[orders]"}, {"POST", "/api/orders", "[inventory]"},
	} {
		d.woken = nil
		g.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(c.method, c.path, nil))
		if got := fmt.Sprint(d.woken); got != c.want {
			t.Errorf("%s %s wakes %s, want %s", c.method, c.path, got, c.want)
		}
	}
}

func on[T any](f *function.Function, t event.Type[T]) {
	function.On(f, t, func(context.Context, *function.Tx, T) error { return nil })
}
