package gateway_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/functions/gateway"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/discovery/static"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/generate"
	"github.com/ebb-dev/ebb/infra/host"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/ratelimit/redis/redistest"
)

// product is the policy under test.
var product = gateway.Config{
	Documents: generate.Product{Title: "Example"},
	Parts:     []gateway.Part{{Name: "user", Path: "/api/users/{subject}"}, {Name: "orders", Path: "/api/orders"}},
}

func users(env function.Env) (*function.Function, error) {
	f := function.New("users", env)
	type input struct {
		ID string `path:"id"`
	}
	type output struct{ Body map[string]any }
	function.Serve(f, function.Operation{Method: "GET", Path: "/api/users/{id}"},
		func(context.Context, *function.Tx, *input) (*output, error) { return nil, nil })
	return f, nil
}

// newGateway returns the gateway of a system that has only users beside it.
func newGateway(t *testing.T, cfg gateway.Config, env function.Env) http.Handler {
	t.Helper()
	var all manifest.System
	for _, constructor := range []func(function.Env) (*function.Function, error){users, cfg.New} {
		d, err := function.Declare(constructor)
		if err != nil {
			t.Fatal(err)
		}
		all.Functions = append(all.Functions, d)
	}
	env.System = func() manifest.System { return all }
	env.Logger = slog.New(slog.DiscardHandler)
	f, err := cfg.New(env)
	if err != nil {
		t.Fatal(err)
	}
	return f.Instance()
}

func get(h http.Handler, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", path, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// signIn returns what checks tokens, and a token of ada.
func signIn(t *testing.T) (auth.Authenticator, string) {
	t.Helper()
	keys, err := auth.GenerateKeyRing()
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := auth.NewVerifier(auth.VerifierConfig{Keys: keys.Public(), Issuer: "ebb", Audience: "ebb"})
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := auth.NewIssuer(keys, "ebb", "ebb", nil).Issue(auth.Grant{Subject: "ada", TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return verifier, "Bearer " + token
}

// answer returns a handler that answers with the path as a JSON string.
func answer() http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { _ = json.NewEncoder(w).Encode(r.URL.Path) }
}

// GET /api/me has the parts that a function serves, and the documents describe it. Without parts it is not served.
func TestMe(t *testing.T) {
	authenticator, token := signIn(t)
	env := function.Env{Authenticator: authenticator, Discovery: static.Discovery{"users": static.Handler(answer())}}
	g := newGateway(t, product, env)
	got, want := get(g, "/api/me", "Authorization", token).Body.String(), `{"missing":[],"user":"/api/users/ada"}`+"\n"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var document struct {
		Info  struct{ Title string }
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
		}
	}
	if err := json.Unmarshal(get(g, "/openapi.json").Body.Bytes(), &document); err != nil {
		t.Fatal(err)
	}
	if document.Info.Title != "Example" || document.Paths["/api/me"]["get"].OperationID != "get-me" {
		t.Errorf("the document has the title %q and %v", document.Info.Title, document.Paths["/api/me"])
	}

	g = newGateway(t, gateway.Config{}, env)
	if w := get(g, "/api/me", "Authorization", token); w.Code != http.StatusNotFound {
		t.Errorf("without parts: got %d", w.Code)
	}
	got = get(g, "/openapi.json").Body.String()
	if strings.Contains(got, "/api/me") || !strings.Contains(got, "/healthz") {
		t.Errorf("without parts the document is %s", got)
	}
}

// Without a Discovery, a function has the address that EBB_FUNCTION_URL makes of its name.
func TestFunctionURL(t *testing.T) {
	server := httptest.NewServer(answer())
	defer server.Close()
	authenticator, token := signIn(t)
	settings := map[string]string{"EBB_FUNCTION_URL": server.URL + "/{function}"}
	g := newGateway(t, product, function.Env{Authenticator: authenticator, Lookup: config.Map(settings)})
	got, want := get(g, "/api/users/1", "Authorization", token).Body.String(), `"/users/api/users/1"`+"\n"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}

	settings["EBB_FUNCTION_URL"] = "http://users"
	_, err := product.New(function.Env{Lookup: config.Map(settings)})
	if err == nil || !strings.HasPrefix(err.Error(), "EBB_FUNCTION_URL: ") {
		t.Errorf("an address without {function}: got %v", err)
	}
}

// EBB_BALANCE and EBB_ZONE say which instance of a function gets a request.
func TestBalance(t *testing.T) {
	instance := func(id, zone string) discovery.Instance {
		return discovery.Instance{ID: id, Zone: zone, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(id)
		})}
	}
	authenticator, token := signIn(t)
	env := function.Env{
		Authenticator: authenticator,
		Lookup:        config.Map(map[string]string{"EBB_BALANCE": "ip-hash", "EBB_ZONE": "north"}),
		Discovery: static.Discovery{
			"users": {instance("a", "north"), instance("b", "south"), instance("c", "north"), instance("d", "")},
		},
	}
	g, got := newGateway(t, product, env), map[string]int{}
	for range 10 {
		got[get(g, "/api/users/1", "Authorization", token).Body.String()]++
	}
	if len(got) != 1 || got[`"a"`+"\n"]+got[`"c"`+"\n"] != 10 {
		t.Errorf("one client's requests went to %v", got)
	}
	env.Lookup = config.Map(map[string]string{"EBB_BALANCE": "random"})
	_, err := product.New(env)
	if err == nil || !strings.Contains(err.Error(), `EBB_BALANCE: unknown balancer "random" (use ip-hash, `) {
		t.Errorf("got %v", err)
	}
}

// EBB_HEALTH_PATH has health checks made of the instances that have an address, while requests come.
func TestHealthPath(t *testing.T) {
	checked := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/users/health/readiness" {
			select {
			case checked <- r.Method:
			default:
			}
		}
	}))
	defer server.Close()
	authenticator, token := signIn(t)
	env := function.Env{Authenticator: authenticator, Lookup: config.Map(map[string]string{
		"EBB_FUNCTION_URL": server.URL + "/{function}", "EBB_HEALTH_PATH": "/health/readiness",
	})}
	get(newGateway(t, product, env), "/api/users/1", "Authorization", token)
	if method := <-checked; method != http.MethodGet {
		t.Errorf("the check is a %s", method)
	}
	for variable, value := range map[string]string{
		"EBB_HEALTH_PATH": "health", "EBB_SLOW_START": "-1s", "EBB_ACCESS_LOG": "2",
	} {
		env.Lookup = config.Map(map[string]string{variable: value})
		if _, err := product.New(env); err == nil || !strings.Contains(err.Error(), variable) {
			t.Errorf("%s=%s: got %v", variable, value, err)
		}
	}
}

// EBB_CORS_ORIGINS lists the origins whose scripts may read answers.
func TestOrigins(t *testing.T) {
	g := newGateway(t, product, function.Env{
		Lookup:    config.Map(map[string]string{"EBB_CORS_ORIGINS": "https://shop.example, https://admin.example/"}),
		Discovery: static.Discovery{"users": static.Handler(answer())},
	})
	for origin, want := range map[string]string{
		"https://shop.example":  "https://shop.example",
		"https://admin.example": "https://admin.example",
		"https://evil.example":  "",
	} {
		if got := get(g, "/healthz", "Origin", origin).Header().Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("%s: got %q, want %q", origin, got, want)
		}
	}
}

// EBB_GATEWAY_POLICY names the file with the policies of the environment, which is watched while the function runs.
func TestPolicyFile(t *testing.T) {
	authenticator, token := signIn(t)
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	settings := config.Map(map[string]string{"EBB_GATEWAY_POLICY": path})
	_, err := product.New(function.Env{Lookup: settings, Discovery: static.Discovery{}})
	if err == nil || !strings.HasPrefix(err.Error(), "EBB_GATEWAY_POLICY: ") {
		t.Errorf("without the file: got %v", err)
	}
	write("operations: {'GET /api/users/{id}': {roles: [staff]}}")
	g := newGateway(t, product, function.Env{
		Authenticator: authenticator, Lookup: settings, Discovery: static.Discovery{"users": static.Handler(answer())},
	}).(host.Instance)
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w := get(g, "/api/users/1", "Authorization", token); w.Code != http.StatusForbidden {
		t.Errorf("got %d, want 403", w.Code)
	}
	write("{}")
	for get(g, "/api/users/1", "Authorization", token).Code != http.StatusOK {
		runtime.Gosched() // until the file has been read
	}
	if err := g.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// With EBB_GATEWAY_REDIS the processes of the gateway count together.
func TestRedis(t *testing.T) {
	authenticator, token := signIn(t)
	path := filepath.Join(t.TempDir(), "policy.yaml")
	const document = "operations: {'GET /api/users/{id}': {rate: [{name: a, quota: 3, window: 24h}]}}"
	if err := os.WriteFile(path, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{"EBB_GATEWAY_POLICY": path, "EBB_GATEWAY_REDIS": redistest.Start(t).URL()}
	env := function.Env{
		Authenticator: authenticator, Lookup: config.Map(settings),
		Discovery: static.Discovery{"users": static.Handler(answer())},
	}
	one, other := newGateway(t, product, env), newGateway(t, product, env)
	for i, g := range []http.Handler{one, other, one, other, one} {
		want := http.StatusOK
		if i >= 3 {
			want = http.StatusTooManyRequests
		}
		if w := get(g, "/api/users/1", "Authorization", token); w.Code != want {
			t.Errorf("request %d: got %d, want %d", i, w.Code, want)
		}
	}
	settings["EBB_GATEWAY_REDIS"] = "http://:secret@host"
	_, err := product.New(function.Env{Lookup: config.Map(settings)})
	if err == nil || !strings.HasPrefix(err.Error(), "EBB_GATEWAY_REDIS: ") || strings.Contains(err.Error(), "secret") {
		t.Errorf("an invalid URL: got %v", err)
	}
}

// With EBB_CACHE the processes of the gateway share stored answers.
func TestCache(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, []byte("operations: {GET /api/shown: {cache: {ttl: 1h}}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	shown := func(env function.Env) (*function.Function, error) {
		f := function.New("users", env)
		function.Serve(f, function.Operation{Method: "GET", Path: "/api/shown", Access: function.Public},
			func(context.Context, *function.Tx, *struct{}) (*struct{}, error) { return nil, nil })
		return f, nil
	}
	d, err := function.Declare(shown)
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{"EBB_GATEWAY_POLICY": path, "EBB_CACHE": redistest.Start(t).URL()}
	make := func() http.Handler {
		f, err := gateway.Config{}.New(function.Env{
			Lookup: config.Map(settings), Discovery: static.Discovery{"users": static.Handler(answer())},
			Logger: slog.New(slog.DiscardHandler),
			System: func() manifest.System { return manifest.System{Functions: []*manifest.Declaration{d}} },
		})
		if err != nil {
			t.Fatal(err)
		}
		return f.Instance()
	}
	one, other := make(), make()
	for !strings.Contains(get(one, "/api/shown").Header().Get("Cache-Status"), "hit") { // a busy machine stores later
		continue
	}
	for !strings.Contains(get(other, "/api/shown").Header().Get("Cache-Status"), "hit") {
		continue
	}
	for _, url := range []string{"memory:?size=secret", "http://:secret@host", "secret"} {
		settings["EBB_CACHE"] = url
		_, err := product.New(function.Env{Lookup: config.Map(settings)})
		if err == nil || !strings.HasPrefix(err.Error(), "EBB_CACHE: ") || strings.Contains(err.Error(), "secret") {
			t.Errorf("an invalid URL: got %v", err)
		}
	}
}

// What the gateway has opened is closed when its host stops it.
func TestStop(t *testing.T) {
	server := miniredis.RunT(t)
	url := "redis://" + server.Addr()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	const document = "operations: {GET /api/a: {cache: {ttl: 1h}}, " +
		"POST /api/a: {rate: [{name: a, quota: 9, window: 1h}]}}"
	if err := os.WriteFile(path, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := function.Declare(func(env function.Env) (*function.Function, error) {
		f := function.New("users", env)
		for _, method := range []string{"GET", "POST"} {
			function.Serve(f, function.Operation{Method: method, Path: "/api/a", Access: function.Public},
				func(context.Context, *function.Tx, *struct{}) (*struct{}, error) { return nil, nil })
		}
		return f, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := gateway.Config{}.New(function.Env{
		Lookup: config.Map(map[string]string{
			"EBB_GATEWAY_POLICY": path, "EBB_CACHE": url, "EBB_GATEWAY_REDIS": url,
		}),
		Discovery: static.Discovery{"users": static.Handler(answer())}, Logger: slog.New(slog.DiscardHandler),
		System: func() manifest.System { return manifest.System{Functions: []*manifest.Declaration{d}} },
	})
	if err != nil {
		t.Fatal(err)
	}
	g := f.Instance()
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	get(g, "/api/a")
	g.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/api/a", nil))
	if n := server.CurrentConnectionCount(); n < 2 {
		t.Fatalf("got %d connections, want those of the cache and the limiter", n)
	}
	for range 2 {
		if err := g.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for server.CurrentConnectionCount() > 0 {
		runtime.Gosched() // until the server has seen it
	}
}

// changed is a type of event of the product.
var changed = event.AccessRevoked

// The gateway consumes the events of the product that invalidate stored answers, without a database.
func TestEvents(t *testing.T) {
	cfg := gateway.Config{Events: []event.Typed{changed}}
	for _, policies := range []bool{false, true} { // with a file of policies too
		settings := map[string]string{}
		if policies {
			settings["EBB_GATEWAY_POLICY"] = filepath.Join(t.TempDir(), "policy.yaml")
			if err := os.WriteFile(settings["EBB_GATEWAY_POLICY"], []byte("{}"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f, err := cfg.New(function.Env{Lookup: config.Map(settings), Discovery: static.Discovery{}})
		if err != nil {
			t.Fatal(err)
		}
		d := f.Instance().Declaration()
		if len(d.Consumes) != 1 || d.Consumes[0] != changed.Name() || d.Trigger == nil || len(d.Collections) > 0 {
			t.Errorf("got %+v", d.Function)
		}
		e := ce.New()
		e.SetID("1")
		e.SetSource("/test")
		e.SetType(changed.Name())
		for _, r := range f.Instance().Receive(t.Context(), []ce.Event{e}) {
			if !r.OK() {
				t.Errorf("got %+v", r)
			}
		}
	}
}

// Without events the gateway consumes and emits nothing and stores nothing, and declares its settings.
func TestDeclaration(t *testing.T) {
	d, err := function.Declare(product.New)
	if err != nil {
		t.Fatal(err)
	}
	if !d.Gateway || len(d.Consumes)+len(d.Emits)+len(d.Collections) > 0 || len(d.Settings) != 11 {
		t.Errorf("got %+v", d.Function)
	}
	if err := d.CheckSettings(config.Map(nil)); err != nil {
		t.Error(err)
	}
}
