package mtls_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/mtls"
)

var quiet = slog.New(slog.DiscardHandler)

func authority(t *testing.T) *mtls.Authority {
	t.Helper()
	a, err := mtls.OpenAuthority(filepath.Join(t.TempDir(), "authority"))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func identity(t *testing.T, a *mtls.Authority, name string) *mtls.Identity {
	t.Helper()
	i, err := a.Identity(name, []string{"localhost", "127.0.0.1"}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func peers(t *testing.T, list ...string) mtls.Peers {
	t.Helper()
	p, err := mtls.ParsePeers(list)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// serve serves orders for the peers until the test ends, and returns its URL.
func serve(t *testing.T, own *mtls.Identity, allowed mtls.Peers) string {
	t.Helper()
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello") })
	return listen(t, own, mtls.Require(hello, allowed))
}

func listen(t *testing.T, own *mtls.Identity, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		Handler: h, TLSConfig: own.TLS(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	go func() { _ = s.ServeTLS(l, "", "") }()
	t.Cleanup(func() { _ = s.Close() })
	return "https://" + l.Addr().String()
}

// get asks with the configuration of a client and returns the status, or the error.
func get(t *testing.T, url string, config *tls.Config) (int, error) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Get(url)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	return answer.StatusCode, nil
}

// The gateway may call. A client without a certificate, one of another authority, and one with another ID may not.
func TestPeers(t *testing.T) {
	ours := authority(t)
	url := serve(t, identity(t, ours, "orders"), peers(t, "spiffe://ebb.local/gateway"))
	for name, c := range map[string]struct {
		config *tls.Config
		status int // 0: the handshake fails
	}{
		"the gateway":               {identity(t, ours, "gateway").Client("orders", nil), 200},
		"another function":          {identity(t, ours, "payments").Client("orders", nil), 403},
		"another authority":         {identity(t, authority(t), "gateway").Client("", nil), 0},
		"no certificate":            {&tls.Config{InsecureSkipVerify: true}, 401}, // the test is about the server
		"TLS 1.2":                   {&tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}, 0},
		"the gateway, for payments": {identity(t, ours, "gateway").Client("payments", nil), 0},
	} {
		status, err := get(t, url, c.config)
		if status != c.status || (err != nil) != (c.status == 0) {
			t.Errorf("%s: got %d %v, want %d", name, status, err, c.status)
		}
	}
}

// trusting is a client that accepts any server and shows the certificate of the identity: what it gets is the server's
// decision.
func trusting(i *mtls.Identity) *tls.Config {
	c := i.Client("", nil)
	c.VerifyConnection = nil
	return c
}

// A server without a SPIFFE ID is known by the name that the client asked for. It has none when an address was asked
// for, which TLS does not tell: such a server is refused, or one with any certificate would do.
func TestServerWithoutID(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS() // for example.com and 127.0.0.1
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	own := identity(t, authority(t), "orders")
	for name, want := range map[string]bool{
		"example.com": true, "example.org": false, "127.0.0.2": false, "127.0.0.1": false,
	} {
		config := own.Client("", roots)
		config.ServerName = name
		c, err := tls.Dial("tcp", s.Listener.Addr().String(), config)
		if err == nil {
			_ = c.Close()
		}
		if (err == nil) != want {
			t.Errorf("%s: got %v, want a connection: %v", name, err, want)
		}
	}
	if status, err := get(t, s.URL, own.Client("", roots)); err == nil {
		t.Errorf("%s: got %d, want a refusal", s.URL, status)
	}
}

// The server itself refuses a client of another authority, whatever the client thinks of the server.
func TestServerRefusesAnotherAuthority(t *testing.T) {
	url := serve(t, identity(t, authority(t), "orders"), peers(t, "spiffe://ebb.local/gateway"))
	if status, err := get(t, url, trusting(identity(t, authority(t), "gateway"))); err == nil {
		t.Errorf("got %d, want a refusal", status)
	}
}

// A * stands for what follows a slash, so that it cannot stand for another trust domain or a longer name.
func TestPeerPatterns(t *testing.T) {
	p := peers(t, "spiffe://example.org/shop/*", " spiffe://example.org/report ", "")
	for id, want := range map[string]bool{
		"spiffe://example.org/shop/orders":   true,
		"spiffe://example.org/shop":          false,
		"spiffe://example.org/shopping/x":    false,
		"spiffe://example.org.evil/shop/x":   false,
		"spiffe://example.org/report":        true,
		"spiffe://example.org/report/x":      false,
		"spiffe://example.org/":              false,
		"":                                   false,
		"spiffe://example.org/shop/../other": true, // is no SPIFFE ID: no certificate has it
	} {
		if got := p.Has(id); got != want {
			t.Errorf("%q: got %v", id, got)
		}
	}
	for _, bad := range []string{
		"*", "spiffe://*", "spiffe://example*", "spiffe://example.org/shop*", "https://example.org/a", "orders",
		"spiffe://example.org/a/../b", "spiffe://example.org/a//b", "spiffe://Example.org/a",
	} {
		if _, err := mtls.ParsePeers([]string{bad}); err == nil {
			t.Errorf("%q is taken for a peer", bad)
		}
	}
	if (mtls.Peers{}).Has("spiffe://example.org/a") {
		t.Error("nobody was named, and somebody may call")
	}
}

// A machine with a role is known by its certificate, and a token beside it counts before that.
func TestMachines(t *testing.T) {
	roles, err := mtls.ParseRoles("spiffe://ebb.local/report=admin, spiffe://ebb.local/report=auditor")
	if err != nil {
		t.Fatal(err)
	}
	a := authority(t)
	var got auth.Principal
	var failed error
	handler := func(w http.ResponseWriter, r *http.Request) {
		got, failed = mtls.Machines{Roles: roles}.Authenticate(r)
	}
	url := listen(t, identity(t, a, "orders"), http.HandlerFunc(handler))
	if _, err := get(t, url, identity(t, a, "report").Client("orders", nil)); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	if got.Subject != "spiffe://ebb.local/report" || !got.Is("admin") || !got.Is("auditor") || got.ExpiresAt.IsZero() {
		t.Errorf("got %+v", got)
	}
	if _, err := get(t, url, identity(t, a, "gateway").Client("orders", nil)); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	if !got.Anonymous() {
		t.Errorf("the gateway carries the requests of others, and got %+v", got)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer x")
	if _, err := (mtls.Machines{Roles: roles}).Authenticate(r); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a token without anything that checks it: got %v", err)
	}
	for _, bad := range []string{"spiffe://ebb.local/report", "report=admin", "spiffe://ebb.local/*=admin", "=admin"} {
		if _, err := mtls.ParseRoles(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// files writes the identity of the name, as cert-manager does, each file in the place of the old one.
func files(t testing.TB, dir string, cert, key, ca []byte) mtls.Files {
	t.Helper()
	put := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return mtls.Files{Cert: put("tls.crt", cert), Key: put("tls.key", key), CA: put("ca.crt", ca)}
}

// lines is where a log is written.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// wait returns when a line with the text was logged.
func (l lines) wait(t *testing.T, text string) {
	t.Helper()
	for {
		select {
		case line := <-l:
			if strings.Contains(line, text) {
				return
			}
		case <-time.After(time.Minute):
			t.Fatalf("not logged: %s", text)
		}
	}
}

// Files that change are used for new connections, also another authority, and connections that are open stay.
func TestFilesAreReloaded(t *testing.T) {
	before, after := authority(t), authority(t)
	dir := t.TempDir()
	cert, key, err := mtls.Issue(before, "orders", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	logged := make(lines, 16)
	own, err := mtls.Open(files(t, dir, cert, key, before.PEM()), slog.New(slog.NewTextHandler(logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	own.Start()
	defer own.Stop()
	url := serve(t, own, peers(t, "spiffe://ebb.local/gateway"))
	open, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), identity(t, before, "gateway").Client("orders", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	ask(t, open)

	files(t, dir, cert, key, []byte("no PEM"))
	logged.wait(t, "keeps its identity")
	ask(t, open)

	cert, key, err = mtls.Issue(after, "orders", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	files(t, dir, cert, key, after.PEM())
	logged.wait(t, "has a new certificate")
	ask(t, open)
	if status, err := get(t, url, identity(t, after, "gateway").Client("orders", nil)); status != 200 {
		t.Errorf("of the new authority: got %d %v", status, err)
	}
	if status, err := get(t, url, trusting(identity(t, before, "gateway"))); err == nil {
		t.Errorf("of the old authority: got %d", status)
	}
}

// ask sends a request on an open connection.
func ask(t *testing.T, c net.Conn) {
	t.Helper()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	w, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(w.Body); err != nil || string(text) != "hello" {
		t.Errorf("got %q, %v", text, err)
	}
}

// Files that do not fit together are refused at the start, and the error names them and no key.
func TestFilesAreRefused(t *testing.T) {
	a := authority(t)
	cert, key, err := mtls.Issue(a, "orders", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	late, lateKey, err := mtls.Issue(a, "orders", time.Now().Add(-2*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for want, f := range map[string][3][]byte{
		"not one that its own authorities issued": {cert, key, authority(t).PEM()},
		"it expired at":                       {late, lateKey, a.PEM()},
		"private key does not match":          {cert, lateKey, a.PEM()},
		"no certificate of an authority":      {cert, key, nil},
		"want a certificate with a SPIFFE ID": {a.PEM(), mtls.KeyOf(a), a.PEM()},
	} {
		files := files(t, t.TempDir(), f[0], f[1], f[2])
		_, err := mtls.Open(files, quiet)
		if err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(want, "it ")) ||
			!strings.Contains(err.Error(), files.Cert) || strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// A client whose certificate has expired opens no connection.
func TestExpired(t *testing.T) {
	a := authority(t)
	url := serve(t, identity(t, a, "orders"), peers(t, "spiffe://ebb.local/gateway"))
	cert, key, err := mtls.Issue(a, "gateway", time.Now().Add(-2*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	expired := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}} // of the server
	if status, err := get(t, url, expired); err == nil {
		t.Errorf("got %d, want a refusal", status)
	}
}

// A connection whose certificate is about to end is closed after the answer, for the client to go on with its next one.
func TestConnectionsEndBeforeTheirCertificate(t *testing.T) {
	a := authority(t)
	url := serve(t, identity(t, a, "orders"), peers(t, "spiffe://ebb.local/gateway"))
	for name, c := range map[string]struct {
		issued time.Time
		close  bool
	}{"fresh": {time.Now(), false}, "old": {time.Now().Add(-57 * time.Minute), true}} {
		cert, key, err := mtls.Issue(a, "gateway", c.issued)
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		config := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}
		conn, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), config)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != 200 || answer.Close != c.close {
			t.Errorf("%s: got %d, close %v", name, answer.StatusCode, answer.Close)
		}
		_ = conn.Close()
	}
}

// BenchmarkOpen measures what an identity from files adds to the start of a process.
func BenchmarkOpen(b *testing.B) {
	a, err := mtls.OpenAuthority(filepath.Join(b.TempDir(), "authority"))
	if err != nil {
		b.Fatal(err)
	}
	cert, key, err := mtls.Issue(a, "orders", time.Now())
	if err != nil {
		b.Fatal(err)
	}
	f := files(b, b.TempDir(), cert, key, a.PEM())
	for b.Loop() {
		if _, err := mtls.Open(f, quiet); err != nil {
			b.Fatal(err)
		}
	}
}
