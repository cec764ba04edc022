package proxy_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/discovery/static"
	"github.com/ebb-dev/ebb/infra/proxy"
)

// remote returns the instance at an address.
func remote(t *testing.T, address string) discovery.Instance {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return discovery.Instance{ID: address, Address: u}
}

// proxyOf returns a proxy of the instances.
func proxyOf(instances ...discovery.Instance) *proxy.Proxy {
	return proxy.New("users", proxy.Config{Discovery: static.Discovery{"users": instances}})
}

func call(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// checkProblem checks that the answer is a problem document of the status.
func checkProblem(t *testing.T, w *httptest.ResponseRecorder, status int) {
	t.Helper()
	var p struct{ Status int }
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != status || p.Status != status {
		t.Errorf("got %d %s, want a problem document of %d", w.Code, w.Body, status)
	}
}

func TestProxySendsTheRequestToTheAddress(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.URL.Path+" "+r.Header.Get("Authorization"))
	}))
	defer server.Close()
	r := httptest.NewRequest("GET", "/api/users/1", nil)
	r.Header.Set("Authorization", "Bearer x")
	w := call(proxyOf(remote(t, server.URL+"/users")), r)
	if got, want := w.Body.String(), "/users/api/users/1 Bearer x"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// An instance of the same process gets the request and the writer themselves.
func TestProxyCallsAHandlerWithoutACopy(t *testing.T) {
	var gotRequest *http.Request
	var gotWriter http.ResponseWriter
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { gotRequest, gotWriter = r, w })
	p := proxyOf(static.Handler(h)...)
	r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
	p.ServeHTTP(w, r)
	if gotRequest != r || gotWriter != w {
		t.Error("the handler got another request or another writer")
	}
	if n := testing.AllocsPerRun(100, func() { p.ServeHTTP(w, r) }); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

// The function learns all addresses that the request came through, the nearest one last.
func TestProxyForwardsTheClientAddress(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Join(r.Header.Values("X-Forwarded-For"), "; "))
	}))
	defer server.Close()
	p := proxyOf(remote(t, server.URL))
	for before, want := range map[string]string{
		"":                       "192.0.2.1",
		"198.51.100.7, 10.0.0.1": "198.51.100.7, 10.0.0.1, 192.0.2.1",
	} {
		r := httptest.NewRequest("GET", "/api/users/1", nil)
		if before != "" {
			r.Header.Set("X-Forwarded-For", before)
		}
		if got := call(p, r).Body.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// The function learns the host and the scheme that the client used, also when TLS ends at a proxy before this one.
func TestProxyForwardsTheScheme(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-Forwarded-Proto")+" "+r.Header.Get("X-Forwarded-Host"))
	}))
	defer server.Close()
	p := proxyOf(remote(t, server.URL))
	for before, want := range map[string]string{"": "http shop.example", "https": "https shop.example"} {
		r := httptest.NewRequest("GET", "http://shop.example/api/users/1", nil)
		if before != "" {
			r.Header.Set("X-Forwarded-Proto", before)
		}
		if got := call(p, r).Body.String(); got != want {
			t.Errorf("%q: got %q, want %q", before, got, want)
		}
	}
	r := httptest.NewRequest("GET", "https://shop.example/api/users/1", nil)
	if got := call(p, r).Body.String(); got != "https shop.example" {
		t.Errorf("TLS ends here: got %q", got)
	}
}

// Two instances share the requests, whether they have an address or a handler.
func TestProxyBalances(t *testing.T) {
	var sent, called atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { sent.Add(1) }))
	defer server.Close()
	p := proxyOf(remote(t, server.URL),
		discovery.Instance{ID: "here", Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Add(1) })})
	for n := range 10 {
		if w := call(p, httptest.NewRequest("GET", "/", nil)); w.Code != http.StatusOK {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
		if got, want := sent.Load()-called.Load(), int64(1-n%2); got != want {
			t.Errorf("after %d requests the first instance is %d ahead, want %d", n+1, got, want)
		}
	}
}

// A request whose instance refuses the connection fails: it is not sent to another instance.
func TestProxyDoesNotRetryOnAnotherInstance(t *testing.T) {
	for _, method := range []string{"POST", "PATCH", "PUT", "DELETE", "GET"} {
		t.Run(method, func(t *testing.T) {
			var asked atomic.Int64
			live := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
			defer live.Close()
			gone := httptest.NewServer(http.NotFoundHandler())
			gone.Close()
			p := proxyOf(remote(t, gone.URL), remote(t, live.URL))
			for n := range 4 {
				w := call(p, httptest.NewRequest(method, "/", strings.NewReader(`{}`)))
				if n%2 == 0 {
					checkProblem(t, w, http.StatusServiceUnavailable)
				} else if w.Code != http.StatusOK {
					t.Errorf("the instance that runs answered %d", w.Code)
				}
				if got, want := asked.Load(), int64(n+1)/2; got != want {
					t.Errorf("after %d requests the instance that runs got %d, want %d", n+1, got, want)
				}
			}
		})
	}
}

// An instance that cannot be reached, or answers 503, is left out after five requests. An answer of 500 says nothing
// about the instance, and neither does a caller that goes away.
func TestProxyLeavesOutAnInstanceThatFails(t *testing.T) {
	for name, c := range map[string]struct {
		status int // of the instance; 0: it is gone
		gone   bool
		out    bool
	}{
		"gone": {0, false, true}, "503": {503, false, true}, "502": {502, false, true}, "504": {504, false, true},
		"500": {500, false, false}, "404": {404, false, false}, "the caller is gone": {0, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			good := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			defer good.Close()
			ill := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(c.status) }))
			defer ill.Close()
			if c.status == 0 {
				ill.Close()
			}
			p := proxyOf(remote(t, ill.URL), remote(t, good.URL))
			for range 10 {
				r := httptest.NewRequest("GET", "/", nil)
				if c.gone {
					ctx, cancel := context.WithCancel(t.Context())
					cancel()
					r = r.WithContext(ctx)
				}
				call(p, r)
			}
			members, healthy := p.Pool().Members()
			if len(members) != 2 || (healthy == 1) != c.out {
				t.Errorf("%d of %d instances are healthy", healthy, len(members))
			}
			for _, m := range members {
				if m.Pending() != 0 {
					t.Errorf("%s has %d requests under way", m.Instance.ID, m.Pending())
				}
			}
		})
	}
}

// A function that has no instance is unavailable, and a name that no function has is not found.
func TestProxyWithoutInstances(t *testing.T) {
	d := static.Discovery{"users": nil}
	r := httptest.NewRequest("GET", "/", nil)
	checkProblem(t, call(proxy.New("users", proxy.Config{Discovery: d}), r), http.StatusServiceUnavailable)
	checkProblem(t, call(proxy.New("orders", proxy.Config{Discovery: d}), r), http.StatusNotFound)
}

// A change of the instances is seen by the next request.
func TestProxySeesChanges(t *testing.T) {
	named := func(id string) discovery.Instance {
		return discovery.Instance{ID: id, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, id)
		})}
	}
	d := static.Discovery{}
	p := proxy.New("users", proxy.Config{Discovery: d})
	a, b, c := named("a"), named("b"), named("c")
	for n, instances := range [][]discovery.Instance{{a}, {b}, {c, c}, nil, {b}} {
		d["users"] = instances
		for range 2 {
			w := call(p, httptest.NewRequest("GET", "/", nil))
			if len(instances) == 0 {
				checkProblem(t, w, http.StatusServiceUnavailable)
			} else if got, want := w.Body.String(), instances[0].ID; got != want {
				t.Errorf("list %d: got %q, want %q", n, got, want)
			}
		}
	}
}

// A body that turns out too large while it is sent is the caller's fault, not the function's.
func TestProxyRefusesABodyThatIsTooLarge(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer server.Close()
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader(strings.Repeat("a", 101))))
	r.Body = http.MaxBytesReader(w, r.Body, 100)
	proxyOf(remote(t, server.URL)).ServeHTTP(w, r)
	checkProblem(t, w, http.StatusRequestEntityTooLarge)
}

// BenchmarkProxy measures one request to an instance with an address, with many at the same time.
func BenchmarkProxy(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"id":"1"}`)
	}))
	defer server.Close()
	u, err := url.Parse(server.URL)
	if err != nil {
		b.Fatal(err)
	}
	p := proxyOf(discovery.Instance{ID: "a", Address: u})
	b.ReportAllocs()
	b.RunParallel(func(loop *testing.PB) {
		for loop.Next() {
			if w := call(p, httptest.NewRequest("GET", "/", nil)); w.Code != http.StatusOK {
				b.Errorf("got %d", w.Code)
			}
		}
	})
}
