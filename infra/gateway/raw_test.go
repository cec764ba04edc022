package gateway_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/discovery/static"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/httpserver"
)

// rawGateway is a gateway behind the server of the hosts, with a function in another process that notes what it gets.
type rawGateway struct {
	*testing.T
	address string
	mu      sync.Mutex
	seen    []string
	headers []http.Header
}

func newRawGateway(t *testing.T) *rawGateway {
	t.Helper()
	g := &rawGateway{T: t}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the gateway has refused the rest
		}
		g.mu.Lock()
		g.seen = append(g.seen, r.Method+" "+r.URL.RequestURI()+" "+string(body))
		g.headers = append(g.headers, r.Header.Clone())
		g.mu.Unlock()
		fmt.Fprint(w, "ok")
	}))
	t.Cleanup(upstream.Close)
	to, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, with("a", nil,
		function.Operation{Method: "GET", Path: "/api/a", Access: function.Public},
		function.Operation{Method: "GET", Path: "/api/a/{id}", Access: function.Public},
		function.Operation{Method: "POST", Path: "/api/a", Access: function.Public, MaxBody: 1000},
		function.Operation{Method: "GET", Path: "/api/admin", Access: function.Only("admin")},
	), func(cfg *gateway.Config) {
		cfg.Discovery.(static.Discovery)["a"] = []discovery.Instance{{ID: "a", Address: to}}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := httpserver.New(f.gateway)
	go func() { _ = server.Serve(httpserver.Listener(l)) }()
	t.Cleanup(func() { _ = server.Close() })
	g.address = l.Addr().String()
	return g
}

// end is a request that ends a connection.
const end = "GET /api/a?end HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

// send sends bytes on a connection of their own, and then a request that ends it. It returns the statuses of the
// answers to the bytes, and what the function has got before that request.
func (g *rawGateway) send(request string) (statuses []int, seen []string) {
	g.Helper()
	c, err := net.Dial("tcp", g.address)
	if err != nil {
		g.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, request+end) // the gateway may refuse to read all of it
	answer, _ := io.ReadAll(c)
	for part := range bytes.SplitSeq(answer, []byte("HTTP/1.1 ")) {
		if status, err := strconv.Atoi(string(part[:min(3, len(part))])); err == nil {
			statuses = append(statuses, status)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	seen, g.seen = g.seen, nil
	if n := len(seen); n > 0 && seen[n-1] == "GET /api/a?end " {
		seen, statuses = seen[:n-1], statuses[:len(statuses)-1]
	}
	return statuses, seen
}

// Requests that two programs could read differently are refused, or reach the function as one request only. What comes
// after such a request on the connection is never taken for part of another one.
func TestSmuggling(t *testing.T) {
	g := newRawGateway(t)
	const post, last = "POST /api/a HTTP/1.1\r\nHost: x\r\n", "GET /api/a?second HTTP/1.1\r\nHost: x\r\n\r\n"
	const first, second = "POST /api/a ", "GET /api/a?second "
	for _, c := range []struct {
		name, request string
		statuses      []int
		seen          []string
	}{
		{"a plain pair", post + "Content-Length: 1\r\n\r\nb" + last, []int{200, 200}, []string{first + "b", second}},
		{"CL.TE", post + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", nil, nil},
		{"TE.CL", post + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5\r\nGPOST\r\n0\r\n\r\n", nil, nil},
		{"TE.TE", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + last, nil, nil},
		{"an unknown coding", post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + last, nil, nil},
		{"a blank before the colon", post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + last, nil, nil},
		{"a tab before the value", post + "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + last, nil, nil},
		{"two lengths", post + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nbb" + last, nil, nil},
		{"the same length twice", post + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nb" + last,
			[]int{200, 200}, []string{first + "b", second}},
		{"lines that end in a bare LF", "POST /api/a HTTP/1.1\nHost: x\nContent-Length: 1\n\nb", nil, nil},
		{"a bare LF within a field", post + "X-A: b\nContent-Length: 5\r\nContent-Length: 1\r\n\r\nb", nil, nil},
		{"TE.TE with a comma", post + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + last, nil, nil},
		{"TE.TE in another case",
			post + "Transfer-Encoding: xchunked\r\ntransfer-encoding: CHUNKED\r\n\r\n0\r\n\r\n", nil, nil},
		{"TE with HTTP/1.0", // after its answer, which begins with HTTP/1.0, the connection ends
			"POST /api/a HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			[]int{}, []string{first}},
		{"a long chunk extension", post + "Transfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("a", 100<<10) +
			"\r\nb\r\n0\r\n\r\n", []int{400}, nil},
		{"a trailer that is a length", post + "Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n" +
			"1\r\nb\r\n0\r\nContent-Length: 9\r\n\r\n", nil, nil},
		{"a list of lengths", post + "Content-Length: 1, 2\r\n\r\nbb" + last, nil, nil},
		{"a signed length", post + "Content-Length: +1\r\n\r\nb" + last, nil, nil},
		{"a negative length", post + "Content-Length: -1\r\n\r\nb" + last, nil, nil},
		{"a length in hexadecimal", post + "Content-Length: 0x1\r\n\r\nb" + last, nil, nil},
		{"a folded line", post + "X-A: 1\r\n Content-Length: 5\r\nContent-Length: 1\r\n\r\nb",
			[]int{200}, []string{first + "b"}},
		{"no name", post + ": x\r\nContent-Length: 1\r\n\r\nb", nil, nil},
		{"a zero byte", post + "X-A: a\x00b\r\nContent-Length: 1\r\n\r\nb", nil, nil},
		{"a bare CR", post + "X-A: a\rContent-Length: 5\r\nContent-Length: 1\r\n\r\nb", nil, nil},
		{"chunk extensions", post + "Transfer-Encoding: chunked\r\n\r\n1;a=b\r\nb\r\n0\r\n\r\n",
			[]int{200}, []string{first + "b"}},
		{"a bare LF in a chunk's line", post + "Transfer-Encoding: chunked\r\n\r\n1;a\nb\r\n0\r\n\r\n" + last,
			[]int{400}, nil},
		{"a chunk that is longer than it says",
			post + "Transfer-Encoding: chunked\r\n\r\n1\r\nbb\r\n0\r\n\r\n" + last, []int{400}, nil},
		{"a chunk's size with a sign", post + "Transfer-Encoding: chunked\r\n\r\n+1\r\nb\r\n0\r\n\r\n" + last,
			[]int{400}, nil},
		{"a chunk's size that overflows",
			post + "Transfer-Encoding: chunked\r\n\r\n10000000000000001\r\nb\r\n0\r\n\r\n", []int{400}, nil},
		{"no host", "GET /api/a HTTP/1.1\r\n\r\n", nil, nil},
		{"two hosts", "GET /api/a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", nil, nil},
		{"a blank in the target", "GET /api/a HTTP/1.1 HTTP/1.1\r\nHost: x\r\n\r\n", nil, nil},
		{"another version", "GET /api/a HTTP/9.9\r\nHost: x\r\n\r\n", nil, nil},
		{"HTTP/2 on a connection of HTTP/1", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", nil, nil},
	} {
		statuses, seen := g.send(c.request)
		switch {
		case c.statuses != nil:
			if !slices.Equal(statuses, c.statuses) || !slices.Equal(seen, c.seen) {
				t.Errorf("%s: got %v, and the function %q; want %v, %q", c.name, statuses, seen, c.statuses, c.seen)
			}
		case len(seen) > 1 || len(statuses) == 0 || len(seen) == 0 && statuses[0] < 400:
			t.Errorf("%s: got %v, and the function %q; want a refusal or one request", c.name, statuses, seen)
		default:
			t.Logf("%s: %v %q", c.name, statuses, seen)
		}
	}
}

// A path means the same to the gateway and to the function, or nothing.
func TestTraversal(t *testing.T) {
	g := newRawGateway(t)
	for target, want := range map[string]int{
		"/api/a/../admin": 404, "/api/a/%2e%2e/admin": 404, "/api/a/..%2fadmin": 200, "/api//a": 404, "//api/a": 404,
		"/api/a/.": 404, "/api/a/%2e": 404, "/api/a/%00": 400, "/api/a/%ff": 400, `/api/a/..\admin`: 200,
		"/api/a/%252e%252e": 200, "/api/admin": 401, "/api/%61dmin": 401, "/api/admin;x": 404, "/api/admin/": 404,
		"/API/ADMIN": 404, "/api/a?x=/../admin": 200, "http://evil.example/api/admin": 401, "/api/a/%c0%ae%c0%ae": 400,
	} {
		statuses, seen := g.send("GET " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if !slices.Equal(statuses, []int{want}) || (len(seen) == 1) != (want == 200) ||
			slices.ContainsFunc(seen, func(s string) bool {
				return strings.Contains(s, "/admin") && !strings.Contains(s, "?") &&
					!strings.Contains(s, `%5C`)
			}) {
			t.Errorf("%s: got %v, and the function %q; want %d", target, statuses, seen, want)
		}
	}
	for _, method := range []string{"TRACE", "CONNECT", "DELETE", "get", "X"} {
		statuses, seen := g.send(method + " /api/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if len(statuses) != 1 || statuses[0] < 400 || len(seen) > 0 {
			t.Errorf("%s: got %v, and the function %q; want a refusal", method, statuses, seen)
		}
	}
}

// A flood of header fields is refused before the function is called.
func TestHeaderFloods(t *testing.T) {
	g := newRawGateway(t)
	for name, header := range map[string]string{
		"a long field":       "X-A: " + strings.Repeat("a", 100<<10) + "\r\n",
		"a long name":        strings.Repeat("a", 100<<10) + ": x\r\n",
		"many fields":        strings.Repeat("X-A: a\r\n", 20_000),
		"a long target":      "",
		"many encodings":     "Accept-Encoding: " + strings.Repeat("gzip,", 20_000) + "\r\n",
		"many forwarded":     "X-Forwarded-For: " + strings.Repeat("1.1.1.1,", 20_000) + "\r\n",
		"many credentials":   strings.Repeat("Authorization: Bearer x\r\n", 10),
		"many content types": strings.Repeat("Content-Type: text/plain\r\n", 10),
	} {
		target := "/api/a"
		if header == "" {
			target += "?" + strings.Repeat("a", 100<<10)
		}
		statuses, seen := g.send("GET " + target + " HTTP/1.1\r\nHost: x\r\n" + header + "Connection: close\r\n\r\n")
		if len(statuses) != 1 || statuses[0] < 400 || len(seen) > 0 {
			t.Errorf("%s: got %v, and the function %d requests", name, statuses, len(seen))
		}
	}
}

// Fields that are named as those of the connection do not take away what the gateway sets, and none of the connection's
// reach the function.
func TestHopByHop(t *testing.T) {
	g := newRawGateway(t)
	statuses, _ := g.send("GET /api/a HTTP/1.1\r\nHost: x\r\n" +
		"Connection: close, X-Forwarded-For, X-Request-Id, X-Secret\r\n" +
		"X-Forwarded-For: 9.9.9.9\r\nX-Request-Id: id-1\r\nX-Secret: s\r\nKeep-Alive: x\r\nTE: trailers\r\n" +
		"Proxy-Authorization: Basic eDp5\r\nProxy-Connection: keep-alive\r\n\r\n")
	if !slices.Equal(statuses, []int{200}) || len(g.headers) != 1 {
		t.Fatalf("got %v, %d requests", statuses, len(g.headers))
	}
	h := g.headers[0]
	for _, name := range []string{"X-Secret", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection"} {
		if h.Get(name) != "" {
			t.Errorf("the function got %s: %q", name, h.Get(name))
		}
	}
	if got := h.Get("X-Forwarded-For"); got != "9.9.9.9, 127.0.0.1" {
		t.Errorf("X-Forwarded-For is %q", got)
	}
}

// A compressed body is not unpacked, and its size is that of what was sent: a bomb does not go off.
func TestGzipBomb(t *testing.T) {
	g := newRawGateway(t)
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	_, _ = w.Write(make([]byte, 500_000))
	_ = w.Close()
	request := fmt.Sprintf("POST /api/a HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s",
		bomb.Len(), bomb.String())
	statuses, seen := g.send(request)
	if !slices.Equal(statuses, []int{200}) || len(seen) != 1 || seen[0] != "POST /api/a "+bomb.String() {
		t.Errorf("got %v, and the function %d bytes", statuses, len(strings.Join(seen, "")))
	}
	body := strings.Repeat("a", 1001)
	for _, request := range []string{
		"Content-Length: 1001\r\n\r\n" + body, "Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + body + "\r\n0\r\n\r\n",
		"Content-Length: 1099511627776\r\n\r\n" + body,
	} {
		statuses, seen := g.send("POST /api/a HTTP/1.1\r\nHost: x\r\n" + request)
		if !slices.Equal(statuses, []int{413}) || len(seen) > 0 {
			t.Errorf("%.40q: got %v, and the function %d requests, want 413", request, statuses, len(seen))
		}
	}
}

// Line ends in a query, a path or an id do not become lines of a header.
func TestSplitting(t *testing.T) {
	g := newRawGateway(t)
	for _, request := range []string{
		"GET /api/a?x=%0d%0aSet-Cookie:%20a=b HTTP/1.1\r\nHost: x\r\n",
		"GET /api/a/%0d%0aSet-Cookie:%20a=b HTTP/1.1\r\nHost: x\r\n",
		"GET /api/none/%0d%0aSet-Cookie:%20a=b HTTP/1.1\r\nHost: x\r\n", // that no operation is declared for
		"GET /api/a HTTP/1.1\r\nHost: x\r\nX-Request-Id: a%0d%0aSet-Cookie: a=b\r\n",
		"GET /api/a HTTP/1.1\r\nHost: x\r\nOrigin: http://x%0d%0aSet-Cookie: a=b\r\n",
	} {
		c, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, request+"Connection: close\r\n\r\n")
		answer, err := io.ReadAll(c)
		_ = c.Close()
		if err != nil || len(answer) == 0 || strings.Contains(string(answer), "\nSet-Cookie") {
			t.Errorf("%q: got %q, %v", request, answer, err)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, h := range g.headers {
		if len(h["Set-Cookie"]) > 0 {
			t.Errorf("the function got %v", h)
		}
	}
	if len(g.headers) != 4 {
		t.Errorf("the function got %d requests, want 4", len(g.headers))
	}
}
