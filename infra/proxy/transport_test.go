package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ebb-dev/ebb/infra/discovery/static"
	"github.com/ebb-dev/ebb/infra/proxy"
)

// counted starts a server that counts the connections it is given.
func counted(t testing.TB, h http.HandlerFunc) (*httptest.Server, *atomic.Int64) {
	var conns atomic.Int64
	s := httptest.NewUnstartedServer(h)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s, &conns
}

// answered returns the answer of a round trip as text, for comparison.
func answered(t *testing.T, by http.RoundTripper, r *http.Request) string {
	t.Helper()
	a, err := by.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(a.Body)
	if closed := a.Body.Close(); err == nil {
		err = closed
	}
	a.Header.Del("Date")
	return fmt.Sprintf("%d %s %d %v %v %q %v", a.StatusCode, a.Proto, a.ContentLength, a.Header, a.Trailer, body, err)
}

// Every answer is the same as through http.Transport, and one connection is enough for requests one after the other.
func TestTransportAnswersAsHTTPDoes(t *testing.T) {
	server, conns := counted(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fields := fmt.Sprintf("%q %q", r.Header["X-Given"], r.Header["User-Agent"])
		w.Header().Set("Asked", fmt.Sprintf("%s %s %s %d %s", r.Method, r.URL, r.Host, r.ContentLength, fields))
		switch r.URL.Path {
		case "/empty":
			w.WriteHeader(http.StatusNoContent)
		case "/unchanged":
			w.WriteHeader(http.StatusNotModified)
		case "/pieces":
			for range 3 {
				_, _ = w.Write(bytes.Repeat([]byte("x"), 3000))
				w.(http.Flusher).Flush()
			}
		case "/trailer":
			w.Header().Set("Trailer", "Sum")
			_, _ = w.Write([]byte("with a trailer"))
			w.Header().Set("Sum", "14")
		case "/fails":
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte("it does not work"))
		default:
			_, _ = w.Write(body)
		}
	})
	ours, std := &proxy.Transport{}, &http.Transport{DisableCompression: true}
	defer std.CloseIdleConnections()
	requests := []struct{ method, path, body string }{
		{"GET", "/plain", ""}, {"GET", "/empty", ""}, {"GET", "/unchanged", ""}, {"GET", "/pieces?q=a%20b", ""},
		{"GET", "/trailer", ""}, {"HEAD", "/plain", ""}, {"HEAD", "/pieces", ""}, {"POST", "/echo", "small"},
		{"PUT", "/echo", strings.Repeat("large ", 10_000)}, {"POST", "/fails", "x"}, {"DELETE", "/a%2Fb", ""},
		{"OPTIONS", "/plain", ""}, {"POST", "/echo", ""},
	}
	for range 2 {
		for _, c := range requests {
			make := func() *http.Request {
				r, err := http.NewRequest(c.method, server.URL+c.path, strings.NewReader(c.body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header["X-Given"] = []string{"one", "two"}
				r.Header["User-Agent"] = []string{""}
				r.Host = "another.host"
				return r
			}
			if got, want := answered(t, ours, make()), answered(t, std, make()); got != want {
				t.Errorf("%s %s:\ngot  %.300s\nwant %.300s", c.method, c.path, got, want)
			}
		}
	}
	if n := conns.Load(); n != 2 {
		t.Errorf("they took %d connections", n)
	}
}

// raw starts a server that sends the answers in order. It reads a request's header before each, closes the connection
// after an answer that does not end with MORE, and reports each connection that it has closed.
func raw(t *testing.T, answers ...string) (url string, conns *atomic.Int64, closed <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns = new(atomic.Int64)
	ends := make(chan struct{}, 2*len(answers))
	next := make(chan string, len(answers))
	for _, a := range answers {
		next <- a
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			go func() {
				defer func() { _ = c.Close(); ends <- struct{}{} }()
				from := bufio.NewReader(c)
				for {
					if _, err := http.ReadRequest(from); err != nil {
						return
					}
					answer, more := "", false
					select {
					case answer = <-next:
						answer, more = strings.CutSuffix(answer, "MORE")
					default:
					}
					if _, err := io.WriteString(c, answer); err != nil || !more {
						return
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String(), conns, ends
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// A request that finds its kept connection closed is sent again on a new one, if it may be sent twice.
func TestTransportSendsAgain(t *testing.T) {
	for _, c := range []struct {
		name, method, key, body string
		answers                 []string
		want                    string
		conns                   int64
	}{
		{"read", "GET", "", "", []string{ok + "MORE", "", ok}, "ok", 2},
		{"write with a key", "POST", "k", "", []string{ok + "MORE", "", ok}, "ok", 2},
		{"write", "POST", "", "", []string{ok + "MORE", "", ok}, "EOF", 1},
		{"write with a body", "PUT", "", "x", []string{ok + "MORE", "", ok}, "EOF", 1},
		{"half an answer", "GET", "", "", []string{ok + "MORE", "HTTP/1.1 200", ok}, "unexpected EOF", 1},
		{"a new connection", "GET", "", "", []string{"", ok}, "EOF", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, conns, _ := raw(t, c.answers...)
			tr := &proxy.Transport{}
			ask := func(method string) string {
				r, err := http.NewRequest(method, url, strings.NewReader(c.body))
				if err != nil {
					t.Fatal(err)
				}
				if c.key != "" {
					r.Header.Set("Idempotency-Key", c.key)
				}
				a, err := tr.RoundTrip(r)
				if err != nil {
					return err.Error()
				}
				defer a.Body.Close()
				body, err := io.ReadAll(a.Body)
				if err != nil {
					return err.Error()
				}
				return string(body)
			}
			if c.name != "a new connection" {
				if got := ask("GET"); got != "ok" {
					t.Fatal(got)
				}
			}
			if got := ask(c.method); got != c.want || conns.Load() != c.conns {
				t.Errorf("got %q on %d connections", got, conns.Load())
			}
		})
	}
}

// A request that was sent again may have been carried out twice, and Serve tells so.
func TestSentAgainIsCounted(t *testing.T) {
	at, _, _ := raw(t, ok+"MORE", "", ok)
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	p := proxy.New("a", proxy.Config{Discovery: static.Discovery{"a": {{ID: "1", Address: u}}}})
	for _, want := range []int{1, 2} {
		w := httptest.NewRecorder()
		if got := p.Serve(w, httptest.NewRequest("PUT", "/", nil), nil); got != want || w.Code != 200 {
			t.Errorf("sent %d times, want %d; the answer is %d", got, want, w.Code)
		}
	}
}

// A connection that the server has closed or wants closed, or has sent more on than the answer, is not used again: a
// request that must not be sent twice is not lost on it, and no request gets the answer of another.
func TestTransportChecksKeptConnections(t *testing.T) {
	const nothing = "HTTP/1.1 204 No Content\r\n\r\n"
	const more = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
	for _, last := range []string{
		ok, ok + more, ok + more + "MORE", nothing + more + "MORE",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nokMORE",
		"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\nMORE",
	} {
		url, conns, closed := raw(t, last, ok)
		tr := &proxy.Transport{}
		for n := range 2 {
			r, err := http.NewRequest("POST", url, strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			if got := answered(t, tr, r); !strings.HasPrefix(got, "20") {
				t.Errorf("after %q: got %s", last, got)
			}
			if n == 0 && !strings.HasSuffix(last, "MORE") {
				<-closed
			}
		}
		if conns.Load() != 2 {
			t.Errorf("after %q: %d connections", last, conns.Load())
		}
	}
}

func TestTransportRefuses(t *testing.T) {
	for _, c := range []struct{ name, answer, want string }{
		{"no HTTP", "hello\r\n\r\n", "malformed HTTP"},
		{"a header without end", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2<<20), "too long"},
		{"a switch of protocols", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
			"switched protocols"},
		{"hints without end", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100), "too many interim answers"},
		{"half a body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "unexpected EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, _, _ := raw(t, c.answer)
			r, err := http.NewRequest("GET", url, nil)
			if err != nil {
				t.Fatal(err)
			}
			a, err := (&proxy.Transport{}).RoundTrip(r)
			if err == nil {
				_, err = io.ReadAll(a.Body)
				_ = a.Body.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The trace of a request gets early hints before the answer.
func TestTransportReportsEarlyHints(t *testing.T) {
	url, _, _ := raw(t, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"+ok)
	var hints []string
	got := func(code int, h textproto.MIMEHeader) error {
		hints = append(hints, fmt.Sprint(code, h.Get("Link")))
		return nil
	}
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: got})
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := answered(t, &proxy.Transport{}, r); !strings.Contains(got, `"ok"`) || fmt.Sprint(hints) != "[103</a.css>]" {
		t.Errorf("got %s after %v", got, hints)
	}
}

// A server may answer before it has read all of the request, and close the connection.
func TestTransportReadsAnEarlyAnswer(t *testing.T) {
	url, _, _ := raw(t, "HTTP/1.1 413 Request Entity Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	r, err := http.NewRequest("POST", url, bytes.NewReader(make([]byte, 60<<10)))
	if err != nil {
		t.Fatal(err)
	}
	if got := answered(t, &proxy.Transport{}, r); !strings.HasPrefix(got, "413") {
		t.Errorf("got %s", got)
	}
}

// A request that is not answered in time is not sent again, though its connection was used before.
func TestTransportTimesOutOnce(t *testing.T) {
	var asked atomic.Int64
	release := make(chan struct{})
	server, _ := counted(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			asked.Add(1)
			<-release
		}
	})
	defer close(release)
	tr := &proxy.Transport{}
	get := func(path string) error {
		r, err := http.NewRequest("GET", server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tr.RoundTrip(r)
		return err
	}
	if err := get("/"); err != nil {
		t.Fatal(err)
	}
	tr.SetHeaderTimeout(500 * time.Millisecond) // the server has to be asked by then
	if err := get("/slow"); !errors.Is(err, os.ErrDeadlineExceeded) || asked.Load() != 1 {
		t.Errorf("got %v after %d requests", err, asked.Load())
	}
}

// A connection on which only part of a request was sent is not used again, however early the answer came.
func TestTransportDoesNotReuseAHalfSentRequest(t *testing.T) {
	url, conns, _ := raw(t, ok+"MORE", ok)
	tr := &proxy.Transport{}
	half := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errors.New("gone")))
	for _, body := range []io.Reader{half, strings.NewReader("12345678")} {
		r, err := http.NewRequest("POST", url, body)
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = 8
		if got := answered(t, tr, r); !strings.HasPrefix(got, "200") {
			t.Errorf("got %s", got)
		}
	}
	if n := conns.Load(); n != 2 {
		t.Errorf("both went over %d connections", n)
	}
}

// The end of the context ends a request at once, before its answer and while it is read, and closes the connection.
func TestTransportStopsWithTheContext(t *testing.T) {
	for _, path := range []string{"/nothing", "/half"} {
		left := make(chan struct{})
		server, _ := counted(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/half" {
				_, _ = w.Write([]byte("half"))
				w.(http.Flusher).Flush()
			}
			<-r.Context().Done()
			close(left)
		})
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, "GET", server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(20*time.Millisecond, cancel)
		a, err := (&proxy.Transport{}).RoundTrip(r)
		if err == nil {
			_, err = io.ReadAll(a.Body)
			_ = a.Body.Close()
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", path, err)
		}
		<-left
	}
}

// Other sends the requests that Transport does not: bodies that are large or of unknown length, and upgrades.
func TestTransportUsesOther(t *testing.T) {
	server, _ := counted(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	var others atomic.Int64
	tr := &proxy.Transport{Other: roundTrips(func(r *http.Request) (*http.Response, error) {
		others.Add(1)
		return http.DefaultTransport.RoundTrip(r)
	})}
	for _, body := range []io.Reader{
		io.MultiReader(strings.NewReader("of unknown length")), bytes.NewReader(make([]byte, 1<<20)),
		strings.NewReader("short"),
	} {
		r, err := http.NewRequest("POST", server.URL, body)
		if err != nil {
			t.Fatal(err)
		}
		answered(t, tr, r)
	}
	r, err := http.NewRequest("GET", server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Upgrade", "websocket")
	answered(t, tr, r)
	if others.Load() != 3 {
		t.Errorf("Other sent %d of 4 requests, want 3", others.Load())
	}
}

type roundTrips func(*http.Request) (*http.Response, error)

func (f roundTrips) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Each of many requests at the same time gets its own answer.
func TestTransportManyAtOnce(t *testing.T) {
	server, conns := counted(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	tr := &proxy.Transport{}
	defer tr.CloseIdleConnections()
	var all sync.WaitGroup
	for n := range 16 {
		all.Go(func() {
			for m := range 50 {
				body := fmt.Sprintf("%d of %d", m, n)
				r, err := http.NewRequest("POST", server.URL, strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				a, err := tr.RoundTrip(r)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(a.Body)
				_ = a.Body.Close()
				if err != nil || string(got) != body {
					t.Errorf("got %q, %v, want %q", got, err, body)
				}
			}
		})
	}
	all.Wait()
	if n := conns.Load(); n > 16 {
		t.Errorf("%d connections for 16 clients", n)
	}
}

// One request through a proxy on either transport.
func BenchmarkTransport(b *testing.B) {
	server, _ := counted(b, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"id":"1"}`)) })
	for _, by := range []struct {
		name string
		rt   http.RoundTripper
	}{{"http", &http.Transport{MaxIdleConnsPerHost: 64}}, {"ours", &proxy.Transport{}}} {
		b.Run(by.name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					r, _ := http.NewRequest("GET", server.URL, nil)
					a, err := by.rt.RoundTrip(r)
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, a.Body)
					_ = a.Body.Close()
				}
			})
		})
	}
}
