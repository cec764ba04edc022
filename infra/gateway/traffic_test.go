package gateway_test

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/discovery/static"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/policy"
)

// next is an option that adds a function to what discovery knows, which is not a part of the system.
func next(h http.HandlerFunc) func(*gateway.Config) {
	return func(cfg *gateway.Config) { cfg.Discovery.(static.Discovery)["next"] = static.Handler(h) }
}

// Requests with a header field or a host go to another function.
func TestSplitByRequest(t *testing.T) {
	f := newFixture(t, next(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }))
	f.configure(`
operations:
  GET /api/orders:
    split:
    - {function: next, header: {X-Version: "2", X-Canary: "yes"}}
    - {function: next, host: next.example.com}
`)
	token := f.token()
	for i, c := range []struct {
		headers []string
		host    string
		status  int
	}{
		{nil, "", 200},
		{[]string{"X-Version", "2"}, "", 200},
		{[]string{"X-Version", "2", "X-Canary", "no"}, "", 200},
		{[]string{"X-Version", "2", "X-Canary", "yes"}, "", 202},
		{nil, "next.example.com", 202},
		{nil, "NEXT.example.com:8080", 202},
		{nil, "other.example.com", 200},
	} {
		r := httptest.NewRequest("GET", "/api/orders", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		for i := 0; i+1 < len(c.headers); i += 2 {
			r.Header.Set(c.headers[i], c.headers[i+1])
		}
		if c.host != "" {
			r.Host = c.host
		}
		w := httptest.NewRecorder()
		f.gateway.ServeHTTP(w, r)
		if w.Code != c.status {
			t.Errorf("%d: got %d, want %d", i, w.Code, c.status)
		}
	}
	if w := f.call("GET", "/api/users/1", token, nil, "X-Version", "2", "X-Canary", "yes"); w.Code != 200 {
		t.Errorf("another operation: got %d", w.Code)
	}
}

// A percentage of the callers, always the same ones, reach the other function. More of them include those before.
func TestSplitByPercent(t *testing.T) {
	f := newFixture(t, func(cfg *gateway.Config) { cfg.Authenticator = callers{} },
		next(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }))
	moved := func(percent string) (all []string) {
		f.configure("operations: {GET /api/orders: {split: [{function: next, percent: " + percent + "}]}}")
		for i := range 1000 {
			caller := fmt.Sprint("user-", i)
			if f.call("GET", "/api/orders", "", nil, "X-Caller", caller).Code == http.StatusAccepted {
				all = append(all, caller)
			}
		}
		return all
	}
	few, more := moved("10"), moved("25.5")
	if len(few) < 70 || len(few) > 130 || len(more) < 220 || len(more) > 290 { // the callers are always the same
		t.Errorf("got %d and %d of 1000, want about 100 and 255", len(few), len(more))
	}
	for _, caller := range few {
		if !slices.Contains(more, caller) {
			t.Errorf("%s sees the old version again", caller)
		}
	}
	if all := moved("100"); len(all) != 1000 {
		t.Errorf("of all: got %d", len(all))
	}
}

// A mirrored request reaches both functions, and only the answer of the first one the caller.
func TestMirror(t *testing.T) {
	copies := make(chan *http.Request)
	f := newFixture(t, next(func(w http.ResponseWriter, r *http.Request) {
		copies <- r
		panic("a fault of the copy")
	}))
	f.configure("operations: {GET /api/orders: {mirror: {function: next}}}")
	w := f.call("GET", "/api/orders?x=1", f.token(), nil)
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"orders"`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if r := <-copies; r.URL.RequestURI() != "/api/orders?x=1" || r.Header.Get("Authorization") == "" {
		t.Errorf("the copy is %s %v", r.URL, r.Header)
	}
}

func TestTrafficRefused(t *testing.T) {
	f := newFixture(t)
	for _, c := range [][2]string{
		{"operations: {GET /api/orders: {split: [{function: nobody}]}}",
			`split[0].function: there is no function called "nobody"`},
		{"operations: {GET /api/orders: {split: [{percent: 3}]}}",
			"split[0].function: want the name of a function"},
		{"operations: {GET /api/orders: {split: [{function: users, percent: 101}]}}",
			"split[0].percent: want 0 to 100"},
		{"operations: {GET /api/orders: {split: [{function: users, percent: .nan}]}}",
			"split[0].percent: want "},
		{"operations: {GET /api/orders: {split: [{function: users, percent: 0}]}}",
			"f:1: operations.GET /api/orders.split[0].percent: want more than 0"},
		{"defaults: {split: [{function: users, percent: 0}]}", "f:1: defaults.split[0].percent: want more than 0"},
		{"operations: {GET /api/orders: {mirror: {function: users, percent: 0}}}",
			"operations.GET /api/orders.mirror.percent: want more than 0"},
		{"operations: {GET /api/orders: {mirror: {function: nobody}}}",
			"mirror.function: there is no function"},
		{"operations: {POST /api/users: {mirror: {function: users}}}",
			"mirror: want an operation that only reads"},
		{"proxies: [10.0.0.0/33]",
			"proxies[0]: want an address or a network"},
		{"redirects: [{from: a, to: /b}]",
			"redirects[0].from: want a path"},
		{"redirects: [{from: /a, to: /a}]",
			"redirects[0].to: want another place"},
		{"redirects: [{from: /a, to: //evil}]",
			"redirects[0].to: want a path, or an http"},
		{"redirects: [{from: /a, to: 'javascript:x'}]",
			"redirects[0].to: want a path, or an http"},
		{"redirects: [{from: /a, to: \"/b\\r\\nX: 1\"}]",
			"redirects[0].to: want a path, or an http"},
		{"redirects: [{from: /a, to: /b, status: 200}]",
			"redirects[0].status: want 301"},
		{"redirects: [{from: /a, to: /b}, {from: /a, to: /c}]",
			"redirects[1].from: duplicate"},
	} {
		document, want := c[0], c[1]
		err := f.gateway.(*gateway.Gateway).Configure("f", []byte(document))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", document, err, want)
		}
	}
}

// A redirect keeps the query, and is there for every method.
func TestRedirect(t *testing.T) {
	f := newFixture(t)
	f.configure(`redirects: [{from: /shop, to: /docs}, {from: /old, to: "https://new.example/x", status: 302}]`)
	for target, want := range map[string]string{
		"/shop?a=1&b=%0d%0a": "308 /docs?a=1&b=%0d%0a", "/old": "302 https://new.example/x",
	} {
		for _, method := range []string{"GET", "POST", "HEAD"} {
			w := f.call(method, target, "", nil)
			if got := fmt.Sprint(w.Code, " ", w.Header().Get("Location")); got != want {
				t.Errorf("%s %s: got %s, want %s", method, target, got, want)
			}
		}
	}
	f.problem(f.call("GET", "/shop/", "", nil), 404)
}

// Header fields about the client count from named proxies only, and do not reach functions from elsewhere.
func TestProxies(t *testing.T) {
	f := newFixture(t)
	var seen http.Header
	f.handle("users", func(_ http.ResponseWriter, r *http.Request) { seen = r.Header.Clone() })
	// The limit makes visible which address a request counts for.
	const limit = "\noperations: {POST /api/users: {rate: [{name: a, quota: 1, window: 1h, by: address}]}}"
	send := func(peer string, headers ...string) int {
		r := httptest.NewRequest("POST", "/api/users", nil)
		r.RemoteAddr = net.JoinHostPort(peer, "1")
		for i := 0; i+1 < len(headers); i += 2 {
			r.Header.Add(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		f.gateway.ServeHTTP(w, r)
		return w.Code
	}
	f.configure("proxies: [192.0.2.0/24, '2001:db8::1']" + limit)
	const client = "198.51.100.7"
	if got := send("192.0.2.1", "X-Forwarded-For", client+", 192.0.2.9"); got != 200 || seen.Get("X-Forwarded-For") == "" {
		t.Errorf("from a proxy: got %d %v", got, seen)
	}
	for i, c := range [][]string{
		{"192.0.2.2", client}, {"2001:db8::1", "203.0.113.99, " + client}, {client, ""}, {client, "203.0.113.5"},
		{"::ffff:192.0.2.1", client},
	} {
		if got := send(c[0], "X-Forwarded-For", c[1]); got != 429 {
			t.Errorf("%d: %s with %q: got %d, want the client's limit", i, c[0], c[1], got)
		}
	}
	// A private address is no proxy unless it is named.
	names := []string{"X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-Host", "X-Forwarded-Proto"}
	for i, name := range names {
		peer := fmt.Sprint("10.0.0.", i)
		if got := send(peer, name, "for=1.2.3.4"); got != 200 || seen.Get(name) != "" {
			t.Errorf("%s from a stranger: got %d, the function saw %q", name, got, seen.Get(name))
		}
		if got := send(peer, name, "5.6.7.8"); got != 429 {
			t.Errorf("%s from a stranger: got %d, want the limit of the address", name, got)
		}
	}
}

// The environment names the field in which its proxies tell the client. The other one is taken out even of their
// requests, because a proxy carries what a client has put into a field that it does not know.
func TestClientField(t *testing.T) {
	f := newFixture(t)
	var seen http.Header
	f.handle("users", func(_ http.ResponseWriter, r *http.Request) { seen = r.Header.Clone() })
	const limit = "\noperations: {POST /api/users: {rate: [{name: a, quota: 1, window: 1h, by: address}]}}"
	send := func(peer string, headers ...string) int {
		r := httptest.NewRequest("POST", "/api/users", nil)
		r.RemoteAddr = net.JoinHostPort(peer, "1")
		for i := 0; i+1 < len(headers); i += 2 {
			r.Header.Add(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		f.gateway.ServeHTTP(w, r)
		return w.Code
	}
	f.configure("proxies: [192.0.2.0/24]\nclient_in: Forwarded" + limit)
	const proxy = "192.0.2.1"
	for i, c := range []struct{ forwarded, client string }{
		{"for=198.51.100.1", "198.51.100.1"},
		{"For=198.51.100.2;proto=https;by=192.0.2.1", "198.51.100.2"},
		{`proto=http ; for="198.51.100.3:4711"`, "198.51.100.3"},
		{`for="[2001:db8:1::1]:80"`, "2001:db8:1::1"},
		{`for="[2001:db8:2::1]"`, "2001:db8:2::1"},
		{`for=203.0.113.1, for=198.51.100.4`, "198.51.100.4"},               // the nearest that is no proxy
		{`for=203.0.113.1,for=198.51.100.5 ,for=192.0.2.9`, "198.51.100.5"}, // behind two proxies
		{`for="198.51.100.\6"`, "198.51.100.6"},
		{`host="a,for=203.0.113.1;\"";for=198.51.100.7`, "198.51.100.7"},
		{`for=203.0.113.1 x, for=198.51.100.8`, "198.51.100.8"}, // a client's own, which is not valid, hides nothing
		{`for="203.0.113.1,for=198.51.100.9`, "198.51.100.9"},
		{`for=203.0.113.1;x=",for="198.51.100.10:80"`, "198.51.100.10"},
		{`for=203.0.113.1, for=_hidden`, proxy},
		{`for=203.0.113.1, proto=http`, proxy},
		{`for=203.0.113.1;for=203.0.113.2`, proxy},
		{`for="203.0.113.1`, proxy},
		{`for=203.0.113.1 for=203.0.113.2`, proxy},
		{``, proxy},
	} {
		seen = nil
		got := send(proxy, "Forwarded", c.forwarded, "X-Forwarded-For", fmt.Sprint("203.0.113.", 100+i))
		if got == 429 && c.client == proxy {
			continue // its limit is used up
		}
		if got != 200 || seen.Get("X-Forwarded-For") != c.client || seen.Get("Forwarded") != "" {
			t.Errorf("%s: got %d, and the function saw %v, want %s", c.forwarded, got, seen, c.client)
		}
		if again := send(c.client); again != 429 {
			t.Errorf("%s: %s itself got %d, want its own limit", c.forwarded, c.client, again)
		}
	}
	f.configure("proxies: [192.0.2.0/24]" + limit)
	if got := send(proxy, "Forwarded", "for=203.0.113.1", "X-Forwarded-For", "198.51.100.50"); got != 200 ||
		seen.Get("Forwarded") != "" || seen.Get("X-Forwarded-For") != "198.51.100.50" {
		t.Errorf("without client_in: got %d %v", got, seen)
	}
	for _, document := range []string{"client_in: Forwarded", "proxies: [192.0.2.1]\nclient_in: Via"} {
		err := f.gateway.(*gateway.Gateway).Configure("g.yaml", []byte(document))
		if err == nil || !strings.Contains(err.Error(), "client_in: want X-Forwarded-For or Forwarded") {
			t.Errorf("%s: got %v", document, err)
		}
	}
}

// Answers are compressed for clients that take it, where the operation allows it, and tags of compressed answers work.
func TestCompress(t *testing.T) {
	text := strings.Repeat("a long text that can be compressed. ", 100)
	var match string
	h := func(w http.ResponseWriter, r *http.Request) {
		match = r.Header.Get("If-None-Match")
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Content-Type", "text/plain")
		if match == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, text)
	}
	f := newFixture(t, with("a", h,
		function.Operation{Method: "GET", Path: "/api/a", Access: function.Public, Policy: policy.Policy{Compress: true}},
		function.Operation{Method: "GET", Path: "/api/b", Access: function.Public}))
	for accepts, want := range map[string]string{
		"": "", "identity": "", "gzip": "gzip", "zstd": "zstd", "gzip, deflate, br, zstd": "zstd", "gzip;q=0": "",
	} {
		w := f.call("GET", "/api/a", "", nil, "Accept-Encoding", accepts)
		varies := w.Header().Get("Vary")
		if got := w.Header().Get("Content-Encoding"); got != want || !strings.Contains(varies, "Accept-Encoding") {
			t.Errorf("%q: got %q, Vary %q", accepts, got, varies)
			continue
		}
		var body io.Reader = w.Body
		tag := `"1"`
		switch want {
		case "gzip":
			r, err := gzip.NewReader(w.Body)
			if err != nil {
				t.Fatal(err)
			}
			body, tag = r, `"1-gzip"`
		case "zstd":
			r, err := zstd.NewReader(w.Body)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			body, tag = r, `"1-zstd"`
		}
		if got, err := io.ReadAll(body); err != nil || string(got) != text || w.Header().Get("ETag") != tag {
			t.Errorf("%q: got %d bytes, %v, tag %s", accepts, len(got), err, w.Header().Get("ETag"))
		}
		w = f.call("GET", "/api/a", "", nil, "Accept-Encoding", accepts, "If-None-Match", tag)
		if w.Code != http.StatusNotModified || match != `"1"` {
			t.Errorf("%q: with the tag %s: got %d, the function saw %s", accepts, tag, w.Code, match)
		}
	}
	if w := f.call("GET", "/api/b", "", nil, "Accept-Encoding", "gzip"); w.Header().Get("Content-Encoding") != "" {
		t.Errorf("an operation that does not allow it: %v", w.Header())
	}
}

// An answer that says no-transform is not compressed (RFC 9110, 7.7).
func TestNoTransform(t *testing.T) {
	control := ""
	f := newFixture(t, with("a", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", control)
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, strings.Repeat("a long text. ", 1000))
	}, function.Operation{Method: "GET", Path: "/api/a", Access: function.Public, Policy: policy.Policy{Compress: true}}))
	for of, want := range map[string]string{
		"": "gzip", "max-age=60": "gzip", "max-age=60, No-Transform": "", "no-transform": "",
	} {
		control = of
		w := f.call("GET", "/api/a", "", nil, "Accept-Encoding", "gzip")
		if got := w.Header().Get("Content-Encoding"); got != want || w.Header().Get("No-Gzip-Compression") != "" {
			t.Errorf("%q: got %q, %v", of, got, w.Header())
		}
	}
}

// lines is where a log is written.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// WebSockets and server-sent events pass the gateway, with every policy that wraps the writer in force.
func TestStreams(t *testing.T) {
	release := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: 1\n\n")
			_ = http.NewResponseController(w).Flush()
			<-release
			_, _ = io.WriteString(w, "data: 2\n\n")
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		_, _ = rw.WriteString("echo " + line)
		_ = rw.Flush()
	}))
	defer upstream.Close()
	address, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	logged := make(lines, 16)
	f := newFixture(t, with("a", nil, function.Operation{
		Method: "GET", Path: "/api/a", Access: function.Public, Policy: policy.Policy{Compress: true, MaxAnswer: 100},
	}), func(cfg *gateway.Config) {
		cfg.AccessLog, cfg.Logger = 1, slog.New(slog.NewTextHandler(logged, nil))
		cfg.Discovery.(static.Discovery)["a"] = []discovery.Instance{{ID: "a", Address: address}}
	})
	front := httptest.NewUnstartedServer(f.gateway)
	front.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(logged, nil), slog.LevelError)
	front.Start()
	defer front.Close()

	c, err := net.Dial("tcp", front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const hello = "GET /api/a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	if _, err := io.WriteString(c, hello); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	answer, err := http.ReadResponse(in, nil)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v, %v", answer, err)
	}
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := in.ReadString('\n'); err != nil || line != "echo hello\n" {
		t.Errorf("got %q, %v", line, err)
	}

	c.Close()
	if line := <-logged; !strings.Contains(line, "level=INFO msg=request") || !strings.Contains(line, "status_code=101") {
		t.Errorf("after the end: %s", line)
	}

	events, err := http.Get(front.URL + "/api/a")
	if err != nil {
		t.Fatal(err)
	}
	defer events.Body.Close()
	lines := bufio.NewReader(events.Body)
	if line, err := lines.ReadString('\n'); err != nil || line != "data: 1\n" { // before the stream ends
		t.Errorf("got %q, %v", line, err)
	}
	close(release)
	if rest, err := io.ReadAll(lines); err != nil || string(rest) != "\ndata: 2\n\n" {
		t.Errorf("got %q, %v", rest, err)
	}
}
