package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/policy"
)

// request is a request of a test, with the fields that call cannot set.
func (f *fixture) request(method, target, host string, headers ...string) *httptest.ResponseRecorder {
	f.Helper()
	r := httptest.NewRequest(method, target, nil)
	if host != "" {
		r.Host = host
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	f.gateway.ServeHTTP(w, r)
	return w
}

// public is a function with public operations, whose answers begin with its name.
func public(name string, operations ...function.Operation) func(*gateway.Config) {
	for i := range operations {
		operations[i].Access = function.Public
	}
	return with(name, says(name), operations...)
}

func says(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, name+" "+r.Method+" "+r.RequestURI)
	}
}

// Requests for hosts that the environment does not name are refused, and an operation may be for some of them only.
func TestHosts(t *testing.T) {
	f := newFixture(t, public("shop",
		function.Operation{Method: "GET", Path: "/api/a"}, function.Operation{Method: "GET", Path: "/api/b"}))
	f.configure(`
hosts: [shop.example, "*.shop.example", "::1"]
operations:
  GET /api/b: {hosts: [admin.shop.example]}
`)
	for _, c := range []struct {
		host, path string
		status     int
	}{
		{"shop.example", "/api/a", 200},
		{"SHOP.example:8443", "/api/a", 200},
		{"shop.example.", "/api/a", 200},
		{"www.shop.example", "/api/a", 200},
		{"a.b.shop.example", "/api/a", 200},
		{"[::1]:80", "/api/a", 200},
		{"[::1]", "/api/a", 200},
		{"evil.example", "/api/a", 421},
		{"evilshop.example", "/api/a", 421},
		{".shop.example", "/api/a", 421},
		{"shop.example.evil.example", "/api/a", 421},
		{"shop.example@evil.example", "/api/a", 421},
		{"192.0.2.1", "/api/a", 421},
		{"192.0.2.1", "/healthz", 200},
		{"shop.example", "/api/b", 404},
		{"admin.shop.example", "/api/b", 200},
	} {
		if w := f.request("GET", c.path, c.host); w.Code != c.status {
			t.Errorf("%s at %s: got %d, want %d", c.path, c.host, w.Code, c.status)
		} else if c.status >= 400 {
			f.problem(w, c.status)
		}
	}
	f.problem(f.request("DELETE", "/api/b", "shop.example"), 405)
}

// A request names the version that it asks for by a header field, a parameter of its media type or the path; the
// function sees the path as it is declared. Without a version it gets the current one.
func TestVersions(t *testing.T) {
	f := newFixture(t, public("shop",
		function.Operation{Method: "GET", Path: "/api/a/{id}"}, function.Operation{Method: "GET", Path: "/api/b"}),
		next(says("next")))
	f.configure(`
versions: {current: "1", header: Api-Version, media_type: version, path: true}
operations:
  GET /api/a/{id}:
    split: [{function: next, version: "2"}]
`)
	const path = "/api/a/x%2Fy?z=1"
	for _, c := range []struct{ target, header, accept, content, want string }{
		{path, "", "", "", "shop GET " + path},
		{path, "1", "", "", "shop GET " + path},
		{"/v1" + path, "", "", "", "shop GET " + path},
		{path, "2", "", "", "next GET " + path},
		{"/v2" + path, "", "", "", "next GET " + path},
		{path, "", "text/html, application/json; version=2", "", "next GET " + path},
		{path, "", "", "application/json;version=2", "next GET " + path},
		{path, "", "application/json;version=1", "application/json;version=2", "shop GET " + path},
		{"/v2" + path, "2", "", "", "next GET " + path},
		{"/v2" + path, "1", "", "", "400"},
		{path, "", "a/b;version=1, a/c;version=2", "", "400"},
		{path, "1, 2", "", "", "400"}, // two lines, joined
		{path, "2, 2", "", "", "next GET " + path},
		{path, "3", "", "", "404"},
		{"/v3" + path, "", "", "", "404"},
		{"/api/b", "", "", "", "shop GET /api/b"},
		{"/api/b", "2", "", "", "404"},               // it has no second version
		{"/healthz", "2", "", "", `{"status":"ok"}`}, // what the gateway tells of itself has no versions
		{"/%762" + path, "", "", "", "404"},
		{"/v2/v2" + path, "", "", "", "404"},
		{"/v2/%2e%2e/v2" + path, "", "", "", "404"},
		{"/v" + path, "", "", "", "404"},
	} {
		var headers []string
		for name, value := range map[string]string{"Api-Version": c.header, "Accept": c.accept, "Content-Type": c.content} {
			if value != "" {
				headers = append(headers, name, value)
			}
		}
		w := f.request("GET", c.target, "", headers...)
		got := strings.TrimSpace(w.Body.String())
		if w.Code != 200 {
			got = fmt.Sprint(w.Code)
		}
		if got != c.want {
			t.Errorf("%s %q %q %q: got %s, want %s", c.target, c.header, c.accept, c.content, got, c.want)
		}
	}
	vary := f.request("GET", "/api/a/1", "").Header().Values("Vary")
	if strings.Join(vary, ",") != "Api-Version,Accept" {
		t.Errorf("Vary is %q", vary)
	}
	f.configure("{}")
	if w := f.request("GET", "/api/a/1", "", "Api-Version", "2"); w.Body.String() != "shop GET /api/a/1" {
		t.Errorf("without versions: got %s", w.Body)
	}
}

// Requests with a cookie go to another function; a sticky rule keeps a browser there that has met it once.
func TestCanaryByCookie(t *testing.T) {
	f := newFixture(t, public("shop", function.Operation{Method: "GET", Path: "/api/a"}), next(says("next")))
	f.configure(`
operations:
  GET /api/a:
    split:
    - {function: next, cookie: {beta: "yes"}}
    - {function: next, header: {X-Canary: "*"}, sticky: side}
    - {function: next, percent: 0.01, host: other.example}
`)
	for i, c := range []struct{ name, value, want string }{
		{"X", "", "shop"},
		{"Cookie", "beta=no", "shop"},
		{"Cookie", "a=b; beta=yes", "next"},
		{"X-Canary", "", "next"},
		{"Cookie", "side=next", "next"},
		{"Cookie", "side=shop", "shop"},
	} {
		w := f.request("GET", "/api/a", "", c.name, c.value)
		if !strings.HasPrefix(w.Body.String(), c.want+" ") {
			t.Errorf("%d: got %s, want %s", i, w.Body, c.want)
		}
		set, wants := w.Header().Get("Set-Cookie"), ""
		if c.name == "X-Canary" {
			wants = "side=next; Path=/; HttpOnly; SameSite=Lax"
		}
		if set != wants {
			t.Errorf("%d: the cookie is %q, want %q", i, set, wants)
		}
		if vary := strings.Join(w.Header().Values("Vary"), ","); vary != "Cookie,X-Canary" {
			t.Errorf("%d: Vary is %q", i, vary)
		}
	}
}

// What the other function answers is not given to those whom no cookie leads to it.
func TestCanaryIsStoredApart(t *testing.T) {
	f := newFixture(t, public("shop", function.Operation{
		Method: "GET", Path: "/api/a", Policy: policy.Policy{Cache: &policy.Cache{TTL: policy.Duration(1e12)}},
	}), next(says("next")))
	f.configure(`operations: {GET /api/a: {split: [{function: next, cookie: {beta: "yes"}}]}}`)
	for i, c := range []struct{ cookie, want, cache string }{
		{"beta=yes", "next", "ebb; fwd=miss; stored"}, {"", "shop", "ebb; fwd=miss; stored"},
		{"beta=yes", "next", "ebb; hit"}, {"beta=no", "shop", "ebb; hit"},
	} {
		w := f.request("GET", "/api/a", "", "Cookie", c.cookie)
		if got := w.Header().Get("Cache-Status"); !strings.HasPrefix(w.Body.String(), c.want) || got != c.cache {
			t.Errorf("%d: got %s, %q, want %s, %q", i, w.Body, got, c.want, c.cache)
		}
	}
}

// A field by which requests are split, with a value that meets no rule, makes no other entry of the store.
func TestSplitMakesNoEntries(t *testing.T) {
	c := newCached(t, policy.Cache{TTL: policy.Duration(1e12)}, next(says("next")))
	c.configure(`operations: {GET /api/a: {split: [{function: next, header: {X-Canary: "yes"}}]}}`)
	c.want(c.get("/api/a"), "answer 1 fwd=miss; stored")
	c.want(c.get("/api/a", "X-Canary", "a"), "answer 1 hit")
	if got := c.get("/api/a", "X-Canary", "yes"); !strings.HasPrefix(got, "next") {
		t.Errorf("got %q", got)
	}
}

// A change that the other function has carried out invalidates stored answers too.
func TestCanaryInvalidates(t *testing.T) {
	c := newCached(t, policy.Cache{TTL: policy.Duration(1e12), InvalidatedBy: []string{"PUT /api/a"}}, next(says("next")))
	c.configure("operations: {PUT /api/a: {split: [{function: next}]}}")
	c.get("/api/a")
	if w := c.call("PUT", "/api/a", "", nil); !strings.HasPrefix(w.Body.String(), "next") {
		t.Fatalf("got %s", w.Body)
	}
	c.want(c.get("/api/a"), "answer 2 fwd=miss; stored")
}

// A canary that fails opens a breaker of its own.
func TestCanaryHasItsOwnBreaker(t *testing.T) {
	f := newFixture(t, public("shop", function.Operation{Method: "GET", Path: "/api/a"}),
		next(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }))
	f.configure(`
operations:
  GET /api/a:
    breaker: {failures: 1, requests: 2, pause: 1h}
    split: [{function: next, header: {X-Canary: "yes"}}]
`)
	for i, want := range []int{500, 500, 503} {
		if w := f.request("GET", "/api/a", "", "X-Canary", "yes"); w.Code != want {
			t.Errorf("%d: got %d, want %d", i, w.Code, want)
		}
	}
	if w := f.request("GET", "/api/a", ""); w.Code != 200 {
		t.Errorf("the others: got %d", w.Code)
	}
}

// An upstream is a service that the environment gives the instances of. A request is tried at the next of them.
func TestUpstreams(t *testing.T) {
	ill := at(t, "ill", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	well := at(t, "well", says("well"))
	f := newFixture(t, public("shop", function.Operation{Method: "GET", Path: "/api/a"}))
	document := fmt.Sprintf(`
upstreams: {v2: [%s, %s/]}
operations: {GET /api/a: {retries: 1, split: [{function: v2, header: {X-V: "2"}}]}}
`, ill.Address, well.Address)
	f.configure(document)
	for range 4 {
		if w := f.request("GET", "/api/a?b=c", "", "X-V", "2"); w.Body.String() != "well GET /api/a?b=c" {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	}
	if w := f.request("GET", "/api/a", ""); w.Body.String() != "shop GET /api/a" {
		t.Errorf("the function: got %d %s", w.Code, w.Body)
	}
}

// No request is lost while the policies are replaced, and the ways to upstreams that are gone are forgotten.
func TestReloadOfRoutes(t *testing.T) {
	a, b := at(t, "a", says("a")), at(t, "b", says("b"))
	f := newFixture(t, public("shop", function.Operation{Method: "GET", Path: "/api/a"}))
	const reloads = 100
	var callers sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if w := f.request("GET", "/api/a", ""); w.Code != 200 {
					t.Errorf("got %d %s", w.Code, w.Body)
					return
				}
			}
		})
	}
	for i := range reloads {
		u := []string{a.Address.String(), b.Address.String()}[i%2]
		f.configure(fmt.Sprintf("upstreams: {u%d: [%s]}\n"+
			"operations: {GET /api/a: {split: [{function: u%d, percent: 50}]}}", i, u, i))
	}
	close(stop)
	callers.Wait()
	f.configure("{}")
	if n := gateway.Ways(f.gateway); n > 10 {
		t.Errorf("the gateway keeps %d ways to functions", n)
	}
}

// The copy of a request that writes has its body, is sent only where the environment says so, and never when the body
// is over the limit or was not read to its end.
func TestMirrorOfWrites(t *testing.T) {
	copies := make(chan string, 10)
	var read func(r *http.Request) (int64, error)
	f := newFixture(t, with("shop", func(w http.ResponseWriter, r *http.Request) {
		if _, err := read(r); err != nil {
			w.WriteHeader(413)
		}
	}, function.Operation{Method: "POST", Path: "/api/a", Access: function.Public, MaxBody: 40}),
		next(func(_ http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			copies <- fmt.Sprint(string(body), " ", r.ContentLength, " ", r.Header.Get("X-A"), " ", err)
			panic("a fault of the copy")
		}))
	all := func(r *http.Request) (int64, error) { return io.Copy(io.Discard, r.Body) }
	f.configure("operations: {POST /api/a: {mirror: {function: next, writes: true, max_body: 20}}}")
	post := func(body io.Reader) int { return f.call("POST", "/api/a", "", body, "X-A", "b").Code }
	chunks := func(n int) io.Reader { return io.LimitReader(strings.NewReader(strings.Repeat("x", n)), int64(n)) }

	read = all
	for _, c := range []struct {
		body   io.Reader
		status int
	}{{strings.NewReader(strings.Repeat("x", 21)), 200}, {chunks(21), 200}, {chunks(41), 413}} {
		if got := post(c.body); got != c.status {
			t.Errorf("got %d, want %d", got, c.status)
		}
	}
	read = func(r *http.Request) (int64, error) { return io.CopyN(io.Discard, r.Body, 3) }
	post(strings.NewReader("some"))
	post(chunks(4))
	gateway.AwaitCopies(f.gateway)
	if n := len(copies); n != 0 {
		t.Errorf("%d copies were sent, the first is %s", n, <-copies)
	}
	read = all
	post(strings.NewReader("text"))
	if got := <-copies; got != "text 4 b <nil>" {
		t.Errorf("the copy is %s", got)
	}
	post(chunks(20))
	if got := <-copies; got != strings.Repeat("x", 20)+" 20 b <nil>" {
		t.Errorf("the copy is %s", got)
	}
}

// Copies that hang do not slow requests: beyond a number of them no more are sent.
func TestMirrorThatHangs(t *testing.T) {
	begun, hang := make(chan struct{}, 1000), make(chan struct{})
	defer close(hang)
	f := newFixture(t, public("shop", function.Operation{Method: "GET", Path: "/api/a"}),
		next(func(http.ResponseWriter, *http.Request) { begun <- struct{}{}; <-hang }))
	f.configure("operations: {GET /api/a: {mirror: {function: next}}}")
	for range 200 {
		if w := f.request("GET", "/api/a", ""); w.Code != 200 {
			t.Fatalf("got %d", w.Code)
		}
	}
	for range 64 {
		<-begun
	}
	if n := len(begun); n != 0 {
		t.Errorf("%d copies more than 64 were sent", n)
	}
}

// Copies take nothing from the retries and the breaker of the operation.
func TestMirrorIsTriedOnce(t *testing.T) {
	asked := make(chan struct{}, 10)
	fails := func(w http.ResponseWriter, _ *http.Request) { asked <- struct{}{}; w.WriteHeader(503) }
	ill, other := at(t, "ill", fails), at(t, "other", fails)
	f := newFixture(t, public("shop", function.Operation{Method: "GET", Path: "/api/a"}))
	f.configure(fmt.Sprintf(`
upstreams: {shadow: [%s, %s]}
operations: {GET /api/a: {retries: 3, breaker: {failures: 1, requests: 1}, mirror: {function: shadow}}}
`, ill.Address, other.Address))
	for range 3 {
		if w := f.request("GET", "/api/a", ""); w.Code != 200 {
			t.Errorf("got %d", w.Code)
		}
		<-asked
		gateway.AwaitCopies(f.gateway)
	}
	if n := len(asked); n != 0 {
		t.Errorf("%d copies were sent again", n)
	}
}

// A redirect of all paths below one keeps what follows, and leads nowhere else.
func TestRedirectBelow(t *testing.T) {
	f := newFixture(t)
	f.configure(`
redirects:
- {from: "/old/*", to: "/new/*", status: 301}
- {from: "/gone/*", to: /docs}
- {from: "/*", to: "https://shop.example/*", host: www.shop.example}
- {from: "/top/*", to: "/*"}
`)
	for _, c := range []struct{ host, target, want string }{
		{"", "/old/a/b?c=d", "301 /new/a/b?c=d"},
		{"", "/old/", "301 /new/"},
		{"", "/old/a/", "301 /new/a/"},
		{"", "/old/a%2Fb%20c", "301 /new/a%2Fb%20c"},
		{"", "/old", "404 "},
		{"", "/old%2Fa", "404 "},
		{"", "/older/a", "404 "},
		{"", "/gone/a?x=y", "308 /docs?x=y"},
		{"www.shop.example", "/api/orders?x=y", "308 https://shop.example/api/orders?x=y"},
		{"www.shop.example", "/", "308 https://shop.example/"},
		{"shop.example", "/nothing", "404 "},
		{"www.shop.example", "//evil.example/a", "404 "},
		{"www.shop.example", "/.evil.example/a", "308 https://shop.example/.evil.example/a"},
		{"", "/top/a", "308 /a"},
		{"", "/top//evil.example", "404 "},
		{"", "/top/%2Fevil.example", "404 "},
		{"", "/top/%5Cevil.example", "404 "},
		{"", "/top/%09/evil.example", "308 /%09/evil.example"},
		{"", "/top/../a", "404 "},
		{"", "/top/%2e%2e/a", "404 "},
		{"", "/old/a%0d%0aSet-Cookie:%20a=b", "301 /new/a%0d%0aSet-Cookie:%20a=b"},
	} {
		w := f.request("GET", c.target, c.host)
		if got := fmt.Sprint(w.Code, " ", w.Header().Get("Location")); got != c.want {
			t.Errorf("%s at %s: got %s, want %s", c.target, c.host, got, c.want)
		}
	}
}

func TestRoutesRefused(t *testing.T) {
	f := newFixture(t, public("shop", function.Operation{Method: "GET", Path: "/v1/a"}))
	for _, c := range [][2]string{
		{"hosts: ['shop.example:80']", "f:1: hosts[0]: want the name of a host"},
		{"hosts: ['*']", "hosts[0]: want the name"},
		{"operations: {GET /api/orders: {hosts: ['a b']}}", "operations.GET /api/orders.hosts[0]: want the name"},
		{"versions: {current: '1'}", "versions: want at least one of header, media_type and path"},
		{"versions: {header: V}", "versions.current: want letters"},
		{"versions: {current: '1', header: 'V V'}", "versions.header: want letters"},
		{"versions: {current: '1', path: true}", "versions.path: the path of GET /v1/a begins with a version already"},
		{"operations: {GET /api/orders: {split: [{function: users, version: '2'}]}}", "split[0].version: want versions"},
		{"operations: {GET /api/orders: {split: [{function: users, header: {'a b': c}}]}}", "split[0].header: want names"},
		{"operations: {GET /api/orders: {split: [{function: users, header: {cookie: c}}]}}", "split[0].header: want cookies"},
		{"operations: {GET /api/orders: {split: [{function: users, cookie: {'a=b': c}}]}}", "split[0].cookie: want names"},
		{"operations: {GET /api/orders: {split: [{function: users, sticky: 'a b'}]}}", "split[0].sticky: want the name"},
		{"operations: {GET /api/orders: {split: [{function: users, host: 'a:1'}]}}", "split[0].host: want the name"},
		{"operations: {GET /api/orders: {mirror: {function: users, max_body: 2000000}}}", "mirror.max_body: want 0 to"},
		{"upstreams: {users: ['http://a']}", "upstreams.users: want another name"},
		{"upstreams: {v2: []}", "upstreams.v2: want at least one"},
		{"upstreams: {v2: ['http://a/b']}", "upstreams.v2[0]: want http://HOST:PORT"},
		{"upstreams: {v2: ['ftp://a']}", "upstreams.v2[0]: want http://HOST:PORT"},
		{"upstreams: {v2: ['http://u:p@a']}", "upstreams.v2[0]: want http://HOST:PORT"},
		{"upstreams: {'a b': ['http://a']}", "upstreams.a b: want letters"},
		{"redirects: [{from: '/a/*/b', to: /c}]", "redirects[0].from: want a path"},
		{"redirects: [{from: /a, to: '/b/*'}]", "redirects[0].to: want /* only where from has it"},
		{"redirects: [{from: '/a/*', to: '/a/b/*'}]", "redirects[0].to: want a place that is not below"},
		{"redirects: [{from: '/a/*', to: '//*'}]", "redirects[0].to: want a path"},
		{"redirects: [{from: '/a/*', to: 'https://x*'}]", "redirects[0].to: want a path"},
		{"redirects: [{from: /a, to: /b, host: 'x/y'}]", "redirects[0].host: want the name"},
	} {
		document, want := c[0], c[1]
		err := f.gateway.(*gateway.Gateway).Configure("f", []byte(document))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", document, err, want)
		}
	}
}
