package local_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/auth/keyfile"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host/local"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/system"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// addition is the data of the one event of the system under test.
type addition struct {
	Name string `json:"name" minLength:"1"`
}

var added = event.Define(event.NewNamespace("com.example", "https://example.com/schemas/"),
	"counts.added", 1, event.Fact, "A count went up by one.", addition{Name: "a"})

// count is the stored document of counts, totals and ticks.
type count struct {
	N int `json:"n"`
}

type named struct {
	Name string `path:"name"`
}

type response[T any] struct{ Body T }

// product is a system of small functions for testing the host: counts has operations and emits events, totals consumes
// them, letters takes the dead letters, ticks is called by the host's clock, tokens signs tokens, and gateway hands
// requests on by the segment after /api.
type product struct {
	entered chan struct{} // a waiting operation was called
	proceed chan struct{} // ends the wait
	lookups sync.Map      // lookups of settings, by function
}

func newProduct() *product {
	return &product{entered: make(chan struct{}, 1), proceed: make(chan struct{})}
}

func (p *product) system() system.System {
	return system.System{Name: "example", Functions: []system.Definition{
		{Name: "counts", New: p.counts}, {Name: "totals", New: totals}, {Name: "letters", New: letters},
		{Name: "ticks", New: ticks}, {Name: "tokens", New: p.tokens}, {Name: "gateway", New: gateway},
	}}
}

func (p *product) counts(env function.Env) (*function.Function, error) {
	if env.Lookup != nil {
		p.lookups.Store("counts", env.Lookup)
	}
	f := function.New("counts", env)
	counts := function.Collection[count](f, "counts")
	function.Emits(f, added)
	add := func(ctx context.Context, tx *function.Tx, in *named) (*response[count], error) {
		c, _, err := counts.Find(ctx, tx, in.Name)
		if err != nil {
			return nil, err
		}
		c.N++
		tx.Emit(added.New(in.Name, addition(*in)))
		return &response[count]{c}, counts.Put(ctx, tx, in.Name, c)
	}
	get := func(ctx context.Context, tx *function.Tx, in *named) (*response[count], error) {
		c, _, err := counts.Find(ctx, tx, in.Name)
		return &response[count]{c}, err
	}
	function.Serve(f, function.Operation{Method: "POST", Path: "/api/counts/{name}", Access: function.Public}, add)
	function.Serve(f, function.Operation{Method: "GET", Path: "/api/counts/{name}", Access: function.Public}, get)
	function.Serve(f, function.Operation{Method: "GET", Path: "/api/counts/{name}/signed-in"}, get)
	function.Serve(f, function.Operation{Method: "POST", Path: "/api/counts/{name}/slow", Access: function.Public},
		func(ctx context.Context, tx *function.Tx, in *named) (*response[count], error) {
			p.entered <- struct{}{}
			<-p.proceed
			return add(ctx, tx, in)
		})
	function.Serve(f, function.Operation{Method: "POST", Path: "/api/counts/{name}/invalid", Access: function.Public},
		func(_ context.Context, tx *function.Tx, in *named) (*struct{}, error) {
			e := ce.New()
			e.SetID(tx.NewID())
			e.SetSource("/functions/counts")
			e.SetType(added.Name())
			e.SetSubject(in.Name)
			e.SetTime(tx.Now())
			e.SetExtension(event.PartitionKey, in.Name)
			err := e.SetData(event.ContentType, map[string]int{"name": 7})
			tx.EmitRaw(e)
			return nil, err
		})
	return f, nil
}

func totals(env function.Env) (*function.Function, error) {
	f := function.New("totals", env)
	sums := function.Collection[count](f, "totals")
	function.On(f, added, func(ctx context.Context, tx *function.Tx, a addition) error {
		c, _, err := sums.Find(ctx, tx, a.Name)
		if err != nil {
			return err
		}
		c.N++
		return sums.Put(ctx, tx, a.Name, c)
	})
	function.Serve(f, function.Operation{Method: "GET", Path: "/api/totals/{name}", Access: function.Public},
		func(ctx context.Context, tx *function.Tx, in *named) (*response[count], error) {
			c, _, err := sums.Find(ctx, tx, in.Name)
			return &response[count]{c}, err
		})
	return f, nil
}

// letter is a dead letter.
type letter struct {
	ID         string `json:"id"`
	Subscriber string `json:"subscriber"`
	Code       string `json:"code"`
}

func letters(env function.Env) (*function.Function, error) {
	f := function.New("letters", env)
	dead := function.Collection[letter](f, "letters")
	function.OnDeadLetter(f, func(ctx context.Context, tx *function.Tx, e ce.Event) error {
		return dead.Put(ctx, tx, e.ID(), letter{
			ID: e.ID(), Subscriber: event.Extension(e, broker.ErrorDest), Code: event.Extension(e, broker.ErrorCode),
		})
	})
	function.Serve(f, function.Operation{Method: "GET", Path: "/api/letters", Access: function.Public},
		func(ctx context.Context, tx *function.Tx, _ *struct{}) (*response[[]letter], error) {
			page, err := dead.Query(ctx, tx, store.Find{Limit: 10})
			all := make([]letter, 0, len(page.Items))
			for _, item := range page.Items {
				all = append(all, item.Value)
			}
			return &response[[]letter]{all}, err
		})
	return f, nil
}

func ticks(env function.Env) (*function.Function, error) {
	f := function.New("ticks", env)
	calls := function.Collection[count](f, "ticks")
	function.OnTick(f, func(ctx context.Context, tx *function.Tx, _ time.Time) error {
		c, _, err := calls.Find(ctx, tx, "all")
		if err != nil {
			return err
		}
		c.N++
		return calls.Put(ctx, tx, "all", c)
	})
	function.Serve(f, function.Operation{Method: "GET", Path: "/api/ticks", Access: function.Public},
		func(ctx context.Context, tx *function.Tx, _ *struct{}) (*response[count], error) {
			c, _, err := calls.Find(ctx, tx, "all")
			return &response[count]{c}, err
		})
	return f, nil
}

func (p *product) tokens(env function.Env) (*function.Function, error) {
	if env.Lookup != nil {
		p.lookups.Store("tokens", env.Lookup)
	}
	f := function.New("tokens", env)
	settings, err := function.Configure[struct {
		Keys string `envconfig:"EBB_SIGNING_KEYS" required:"true" secret:"true"`
	}](f)
	if err != nil {
		return nil, err
	}
	keys := new(keyfile.Keys[*auth.KeyRing])
	if settings.Keys != "" { // empty where the function is only declared
		if keys, err = keyfile.Open(settings.Keys, auth.ParseKeyRing, nil); err != nil {
			return nil, err
		}
	}
	issuer := auth.NewRotatingIssuer(keys.Now, "ebb", "ebb", nil)
	issued := function.Collection[count](f, "issued")
	function.Serve(f, function.Operation{Method: "POST", Path: "/api/tokens", Access: function.Public},
		func(ctx context.Context, tx *function.Tx, _ *struct{}) (*response[string], error) {
			token, _, err := issuer.Issue(auth.Grant{Subject: "u-1", TTL: time.Minute})
			if err != nil {
				return nil, err
			}
			return &response[string]{token}, issued.Put(ctx, tx, tx.NewID(), count{1})
		})
	return f, nil
}

func gateway(env function.Env) (*function.Function, error) {
	f := function.New("gateway", env)
	function.Handler(f, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/api/"), "/")
		instances, err := env.Discovery.Instances(r.Context(), name)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		instances[0].Handler.ServeHTTP(w, r)
	}), []byte(`{}`))
	return f, nil
}

// hosted is a product on a local host.
type hosted struct {
	*testing.T
	*local.Host
	*product
}

// start runs a new product on the data of a directory until the test ends.
func start(t *testing.T, dir string, change ...func(*local.Config)) *hosted {
	t.Helper()
	watch, err := telemetry.Start(t.Context(), telemetry.Config{Service: "test", Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	p := newProduct()
	cfg := local.Config{
		Dir: dir, Idle: time.Minute, Tick: 10 * time.Millisecond, Telemetry: watch, System: p.system(),
		Claims: local.Claims{Issuer: "ebb", Audience: "ebb"}, Issuer: "tokens",
	}
	for _, f := range change {
		f(&cfg)
	}
	host, err := local.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	h := &hosted{t, host, p}
	t.Cleanup(h.stop)
	return h
}

func idle(d time.Duration) func(*local.Config) { return func(cfg *local.Config) { cfg.Idle = d } }

func (h *hosted) stop() {
	h.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := h.Close(ctx); err != nil {
		h.Error(err)
	}
}

// request returns the status of the response and decodes its body into out unless that is nil.
func (h *hosted) request(method, path, token string, out any) int {
	h.Helper()
	r := httptest.NewRequest(method, path, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, r)
	if out != nil && w.Code < 300 {
		if err := json.Unmarshal(w.Body.Bytes(), out); err != nil {
			h.Errorf("%s %s: %s: %v", method, path, w.Body, err)
		}
	}
	return w.Code
}

func (h *hosted) must(method, path, token string, out any) {
	h.Helper()
	if status := h.request(method, path, token, out); status >= 300 {
		h.Fatalf("%s %s: %d", method, path, status)
	}
}

func (h *hosted) n(path string) int {
	h.Helper()
	var c count
	h.must("GET", path, "", &c)
	return c.N
}

// within waits until ok returns true, and fails the test after a time.
func (h *hosted) within(what string, ok func() bool) {
	h.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			h.Fatalf("not within 10 s: %s", what)
		}
	}
}

// A function starts with the first request or event for it, stops when it has been idle, and starts again with its
// data.
func TestStartAndStop(t *testing.T) {
	h := start(t, t.TempDir(), idle(20*time.Millisecond))
	if h.Starts("counts") != 0 || h.Running("counts") {
		t.Error("counts runs before the first request")
	}
	for n := range 3 {
		h.must("POST", "/api/counts/a", "", nil)
		h.within("counts and totals are at zero", func() bool {
			return h.Starts("totals") > int64(n) && !h.Running("counts") && !h.Running("totals")
		})
	}
	if got := h.Starts("counts"); got != 3 {
		t.Errorf("counts was started %d times, want 3", got)
	}
	if c, total := h.n("/api/counts/a"), h.n("/api/totals/a"); c != 3 || total != 3 {
		t.Errorf("counted %d and %d in total, want 3 and 3", c, total)
	}
}

// Concurrent requests to a stopped function start it once and all get responses. Other functions stay stopped.
func TestConcurrentRequestsStartOnce(t *testing.T) {
	h := start(t, t.TempDir())
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			if got := h.request("GET", "/api/counts/a", "", nil); got != http.StatusOK {
				t.Errorf("got %d", got)
			}
		})
	}
	all.Wait()
	if got := h.Starts("counts"); got != 1 {
		t.Errorf("counts was started %d times", got)
	}
	if h.Running("totals") || h.Running("tokens") {
		t.Error("a function runs that was sent nothing")
	}
}

// Requests that arrive while a function stops wait, and start it again.
func TestRequestsDuringAStop(t *testing.T) {
	h := start(t, t.TempDir(), idle(time.Nanosecond)) // stopped at every check
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for n := 0; n < 20 || h.Starts("counts") < 3; n++ {
				if got := h.request("GET", "/api/counts/a", "", nil); got != http.StatusOK {
					t.Errorf("got %d", got)
					return
				}
			}
		})
	}
	all.Wait()
}

// Acknowledged changes are kept over a restart, their events are delivered, and earlier tokens are accepted, also after
// a rotation of the keys.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	h := start(t, dir)
	var token string
	h.must("POST", "/api/tokens", "", &token)
	h.must("POST", "/api/counts/a", "", nil)
	h.stop()
	h = start(t, dir)
	h.must("GET", "/api/counts/a/signed-in", token, nil)
	if got := h.n("/api/counts/a"); got != 1 {
		t.Errorf("counted %d, want 1", got)
	}
	h.within("the event is delivered", func() bool { return h.n("/api/totals/a") == 1 })

	// Of a rotation a running system learns.
	if _, err := local.RotateKeys(dir, time.Now(), 0, time.Hour); err != nil {
		t.Fatal(err)
	}
	old := token
	h.within("the new key signs", func() bool {
		h.must("POST", "/api/tokens", "", &token)
		return strings.Split(token, ".")[0] != strings.Split(old, ".")[0]
	})
	h.must("GET", "/api/counts/a/signed-in", token, nil)
	h.stop()
	h = start(t, dir)
	h.must("GET", "/api/counts/a/signed-in", old, nil)
	h.must("GET", "/api/counts/a/signed-in", token, nil)
	if got := h.request("GET", "/api/counts/a/signed-in", "", nil); got != http.StatusUnauthorized {
		t.Errorf("without a token: got %d, want 401", got)
	}
	info, err := os.Stat(filepath.Join(dir, "keys.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("keys.json: %v, %v", info, err)
	}
}

// A second process on the same data directory is refused.
func TestDirectoryLock(t *testing.T) {
	dir := t.TempDir()
	h := start(t, dir)
	cfg := local.Config{
		Dir: dir, Claims: local.Claims{Issuer: "ebb", Audience: "ebb"}, Issuer: "tokens", System: newProduct().system(),
	}
	if _, err := local.New(t.Context(), cfg); err == nil {
		t.Error("it was taken twice")
	}
	h.stop()
	again, err := local.New(t.Context(), cfg)
	if err != nil {
		t.Fatalf("after the end of the first: %v", err)
	}
	if err := again.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// An event that its consumer refuses for good goes to the function that consumes dead letters, and the following events
// are delivered.
func TestDeadLetters(t *testing.T) {
	h := start(t, t.TempDir(), idle(20*time.Millisecond))
	h.must("POST", "/api/counts/a/invalid", "", nil)
	h.must("POST", "/api/counts/a", "", nil)
	var letters []letter
	h.within("there is a dead letter", func() bool {
		h.must("GET", "/api/letters", "", &letters)
		return len(letters) > 0
	})
	if l := letters[0]; len(letters) != 1 || l.Code != "422" || !strings.Contains(l.Subscriber, "totals") {
		t.Errorf("got %+v, want one of totals with code 422", letters)
	}
	h.within("the next event is delivered", func() bool { return h.n("/api/totals/a") == 1 })
}

// The host's clock calls the functions that declare OnTick, and starts no others.
func TestTicks(t *testing.T) {
	h := start(t, t.TempDir())
	h.within("ticks was called twice", func() bool { return h.n("/api/ticks") >= 2 })
	if h.Starts("totals") != 0 {
		t.Error("the clock started totals")
	}
}

// A request that runs when the host closes gets its response and its changes are kept; later ones are refused.
func TestDrain(t *testing.T) {
	dir := t.TempDir()
	h := start(t, dir)
	answered := make(chan int)
	go func() { answered <- h.request("POST", "/api/counts/a/slow", "", nil) }()
	<-h.entered
	closed := make(chan error)
	go func() { closed <- h.Close(context.Background()) }()
	h.within("new requests are refused", func() bool {
		return h.request("GET", "/api/totals/a", "", nil) == http.StatusServiceUnavailable
	})
	select {
	case err := <-closed:
		t.Fatalf("it closed before the request was answered: %v", err)
	default:
	}
	close(h.proceed)
	if got := <-answered; got != http.StatusOK {
		t.Errorf("the request under way was answered %d", got)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if got := h.request("GET", "/api/counts/a", "", nil); got != http.StatusServiceUnavailable {
		t.Errorf("after the end: got %d, want 503", got)
	}
	h = start(t, dir)
	if got := h.n("/api/counts/a"); got != 1 {
		t.Errorf("counted %d after the restart, want 1", got)
	}
}

// Only the issuer gets the private keys, and only the function itself its secrets.
func TestSecrets(t *testing.T) {
	ring, err := auth.GenerateKeyRing()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ring.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	h := start(t, dir, func(cfg *local.Config) {
		cfg.Lookup = config.Map(map[string]string{"EBB_SIGNING_KEYS": string(keys), "SHARED": "1"})
		cfg.Secrets = map[string]config.Lookup{"tokens": config.Map(map[string]string{"SECRET": "x"})}
	})
	for _, c := range []struct {
		function, variable string
		want               bool
	}{
		{"tokens", "EBB_SIGNING_KEYS", true}, {"counts", "EBB_SIGNING_KEYS", false},
		{"tokens", "SECRET", true}, {"counts", "SECRET", false},
		{"tokens", "SHARED", true}, {"counts", "SHARED", true},
	} {
		lookup, _ := h.lookups.Load(c.function)
		if _, got := lookup.(config.Lookup)(c.variable); got != c.want {
			t.Errorf("%s sees %s: %v, want %v", c.function, c.variable, got, c.want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "keys.json")); err == nil {
		t.Error("keys were made although the settings name some")
	}
	var token string
	h.must("POST", "/api/tokens", "", &token)
	h.must("GET", "/api/counts/a/signed-in", token, nil)
}

// A system without a gateway runs, and its handler responds that it has no gateway.
func TestNoGateway(t *testing.T) {
	h := start(t, t.TempDir(), func(cfg *local.Config) { cfg.System.Functions = cfg.System.Functions[:5] })
	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/api/counts/a", nil))
	if w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "no gateway") {
		t.Errorf("got %d %s, want 404", w.Code, w.Body)
	}
	h.within("ticks was started", func() bool { return h.Starts("ticks") > 0 })
}
