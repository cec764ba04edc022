package proxy_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/discovery/static"
	"github.com/ebb-dev/ebb/infra/mtls"
	"github.com/ebb-dev/ebb/infra/proxy"
)

// system is the processes of a system with mutual TLS.
type system struct {
	t         testing.TB
	authority *mtls.Authority
}

func newSystem(t testing.TB) system {
	a, err := mtls.OpenAuthority(filepath.Join(t.TempDir(), "authority"))
	if err != nil {
		t.Fatal(err)
	}
	return system{t, a}
}

func (s system) identity(name string) *mtls.Identity {
	i, err := s.authority.Identity(name, []string{"127.0.0.1"}, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	return i
}

// serve serves the function until the test ends. It returns its address and counts the connections.
func (s system) serve(name string, h http.HandlerFunc) (*url.URL, *atomic.Int64) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	var conns atomic.Int64
	peers, err := mtls.ParsePeers([]string{"spiffe://ebb.local/gateway"})
	if err != nil {
		s.t.Fatal(err)
	}
	server := &http.Server{
		Handler: mtls.Require(h, peers), TLSConfig: s.identity(name).TLS(),
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				conns.Add(1)
			}
		},
	}
	go func() { _ = server.ServeTLS(l, "", "") }()
	s.t.Cleanup(func() { _ = server.Close() })
	return &url.URL{Scheme: "https", Host: l.Addr().String()}, &conns
}

func (s system) transport() *proxy.Transport {
	own := s.identity("gateway")
	return proxy.NewTLSTransport(func(function string) *tls.Config { return own.Client(function, nil) })
}

// By mutual TLS answers are the same as through http.Transport, small and large requests reach the function, and one
// connection is enough for small ones one after the other.
func TestTransportSpeaksTLS(t *testing.T) {
	s := newSystem(t)
	at, conns := s.serve("orders", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("Asked", fmt.Sprintf("%s %s %d", r.Method, r.URL, n))
		_, _ = io.WriteString(w, strings.Repeat("x", 20_000))
	})
	ours := s.transport().For("orders")
	defer ours.CloseIdleConnections()
	std := &http.Transport{TLSClientConfig: s.identity("gateway").Client("orders", nil), DisableCompression: true}
	defer std.CloseIdleConnections()
	for range 3 {
		for _, c := range []struct{ method, body string }{
			{"GET", ""}, {"POST", "small"}, {"HEAD", ""}, {"PUT", strings.Repeat("x", 60<<10)},
		} {
			make := func() *http.Request {
				r, err := http.NewRequest(c.method, at.String()+"/a%2Fb?q=1", strings.NewReader(c.body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header["User-Agent"] = []string{""}
				return r
			}
			if got, want := answered(t, ours, make()), answered(t, std, make()); got != want {
				t.Errorf("%s:\ngot  %.300s\nwant %.300s", c.method, got, want)
			}
		}
	}
	if n := conns.Load(); n != 2 {
		t.Errorf("they took %d connections", n)
	}
	r, err := http.NewRequest("POST", at.String(), strings.NewReader(strings.Repeat("x", 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	if got := answered(t, ours, r); !strings.Contains(got, "POST / 1048576") || !strings.Contains(got, "HTTP/2") {
		t.Errorf("large: got %.200s", got)
	}
}

// A connection is for one function: an instance that is not the function that was asked for gets no request, small or
// large, even when its address has a connection of the other function.
func TestTransportChecksTheFunction(t *testing.T) {
	s := newSystem(t)
	var served atomic.Int64
	at, _ := s.serve("orders", func(w http.ResponseWriter, r *http.Request) { served.Add(1) })
	tr := s.transport()
	for _, name := range []string{"orders", "payments"} {
		p := proxy.New(name, proxy.Config{
			Discovery: static.Discovery{name: []discovery.Instance{{ID: "1", Address: at}}}, Transport: tr,
		})
		for size, want := range map[int]int{0: 1, 1 << 20: 1} {
			before := served.Load()
			w := httptest.NewRecorder()
			p.ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader(strings.Repeat("x", size))))
			got := int(served.Load() - before)
			if name == "orders" && (got != want || w.Code != 200) {
				t.Errorf("orders, %d bytes: served %d, status %d", size, got, w.Code)
			}
			if name == "payments" && (got != 0 || w.Code != 503) {
				t.Errorf("payments, %d bytes: served %d, status %d", size, got, w.Code)
			}
		}
	}
}

// BenchmarkTLS measures what mutual TLS adds: to a small request on a kept connection, and to the first on a new one.
func BenchmarkTLS(b *testing.B) {
	hello := func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, `{"text":"hello"}`) }
	s := newSystem(b)
	secure, _ := s.serve("orders", hello)
	plain, _ := counted(b, hello)
	for _, c := range []struct {
		name, url string
		new       func() *proxy.Transport
	}{
		{"plain", plain.URL, proxy.NewTransport},
		{"mutual", secure.String(), func() *proxy.Transport { return s.transport().For("orders") }},
	} {
		for _, kept := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/kept=%v", c.name, kept), func(b *testing.B) {
				tr := c.new()
				defer tr.CloseIdleConnections()
				for b.Loop() {
					r, err := http.NewRequest("GET", c.url+"/", http.NoBody)
					if err != nil {
						b.Fatal(err)
					}
					a, err := tr.RoundTrip(r)
					if err != nil {
						b.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, a.Body)
					_ = a.Body.Close()
					if !kept {
						tr.CloseIdleConnections()
					}
				}
			})
		}
	}
}
