package httpserver_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/httpserver"
	"github.com/ebb-dev/ebb/infra/internal/testcert"
)

// lines is where a log is written.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// pairFiles writes a new pair for the host name into a folder, each file in the place of the old one.
func pairFiles(t *testing.T, dir, host string, until time.Time) (cert, key string) {
	t.Helper()
	c, k, err := testcert.Pair(host, until)
	if err != nil {
		t.Fatal(err)
	}
	return put(t, filepath.Join(dir, "tls.crt"), c), put(t, filepath.Join(dir, "tls.key"), k)
}

func put(t *testing.T, path string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

func tomorrow() time.Time { return time.Now().Add(24 * time.Hour) }

// serveTLS serves the handler with the pair until the test ends. It returns the address and what is logged.
func serveTLS(t *testing.T, h http.HandlerFunc, cert, key string) (addr string, logged lines) {
	t.Helper()
	logged = make(lines, 16)
	c, err := httpserver.OpenCertificate(cert, key, slog.New(slog.NewTextHandler(logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	c.Start()
	t.Cleanup(c.Stop)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := httpserver.New(h)
	s.TLSConfig, s.ErrorLog = c.TLS(), slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	go func() { _ = s.ServeTLS(httpserver.Listener(l), "", "") }()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String(), logged
}

// connect opens a connection, and returns the host name in the certificate that the server shows.
func connect(t *testing.T, addr string) (*tls.Conn, string) {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true}) // the test looks at the name itself
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, c.ConnectionState().PeerCertificates[0].DNSNames[0]
}

func shown(t *testing.T, addr string) string {
	t.Helper()
	_, name := connect(t, addr)
	return name
}

func logs(t *testing.T, logged lines, want string) {
	t.Helper()
	for {
		select {
		case line := <-logged:
			if strings.Contains(line, want) {
				return
			}
		case <-time.After(time.Minute):
			t.Fatalf("not logged: %s", want)
		}
	}
}

func hello(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }

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

// A pair that is replaced is shown to new connections, and the connections that are open stay.
func TestCertificateIsReplaced(t *testing.T) {
	dir := t.TempDir()
	cert, key := pairFiles(t, dir, "one.example", tomorrow())
	addr, logged := serveTLS(t, hello, cert, key)
	open, name := connect(t, addr)
	ask(t, open)
	if name != "one.example" {
		t.Fatalf("got %s", name)
	}
	pairFiles(t, dir, "two.example", tomorrow())
	logs(t, logged, "two.example")
	if name := shown(t, addr); name != "two.example" {
		t.Errorf("after the change: got %s", name)
	}
	ask(t, open)
}

// Kubernetes replaces the files of a Secret all at once, by moving the symbolic link ..data.
func TestCertificateOfSecret(t *testing.T) {
	dir := t.TempDir()
	for version, host := range map[string]string{"..1": "one.example", "..2": "two.example"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		pairFiles(t, filepath.Join(dir, version), host, tomorrow())
	}
	link := func(to, name string) string {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	link("..1", "..data")
	addr, logged := serveTLS(t, hello, link("..data/tls.crt", "tls.crt"), link("..data/tls.key", "tls.key"))
	if err := os.Rename(link("..2", "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	logs(t, logged, "two.example")
	if name := shown(t, addr); name != "two.example" {
		t.Errorf("got %s", name)
	}
}

// A new pair that is broken, expired, missing or does not fit together is refused with a line that names the file, and
// the old one stays.
func TestCertificateIsRefused(t *testing.T) {
	dir := t.TempDir()
	cert, key := pairFiles(t, dir, "one.example", tomorrow())
	addr, logged := serveTLS(t, hello, cert, key)
	keeps := func(reason string) {
		t.Helper()
		line := ""
		select {
		case line = <-logged:
		case <-time.After(time.Minute):
		}
		if !strings.Contains(line, reason) || !strings.Contains(line, cert) || !strings.Contains(line, "keeps its cert") {
			t.Errorf("got the line %q, want %q", line, reason)
		}
		if name := shown(t, addr); name != "one.example" {
			t.Errorf("%s: got %s", reason, name)
		}
	}
	good, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	put(t, cert, []byte("-----BEGIN CERTIFICATE-----\nbroken"))
	keeps("failed to find any PEM data")
	other, _, err := testcert.Pair("two.example", tomorrow())
	if err != nil {
		t.Fatal(err)
	}
	put(t, cert, other)
	keeps("private key does not match")
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	keeps("no such file")
	put(t, cert, good)
	logs(t, logged, "one.example")
	pairFiles(t, dir, "late.example", time.Now().Add(-time.Hour))
	logs(t, logged, "it expired at")
	if name := shown(t, addr); name != "one.example" {
		t.Errorf("expired: got %s", name)
	}
	if _, err := httpserver.OpenCertificate(cert, key, slog.Default()); err == nil ||
		!strings.Contains(err.Error(), "it expired at") {
		t.Errorf("at the start: got %v", err)
	}
}

// The server speaks TLS 1.2 and 1.3, and tells a client without TLS what is wrong.
func TestTLSVersions(t *testing.T) {
	cert, key := pairFiles(t, t.TempDir(), "one.example", tomorrow())
	addr, _ := serveTLS(t, hello, cert, key)
	for version, works := range map[uint16]bool{
		tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true,
	} {
		c, err := tls.Dial("tcp", addr, &tls.Config{
			InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, // the test is about versions
		})
		if (err == nil) != works {
			t.Errorf("%s: got %v", tls.VersionName(version), err)
		}
		if err == nil {
			c.Close()
		}
	}
	plain, err := http.Get("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Body.Close()
	if plain.StatusCode != http.StatusBadRequest {
		t.Errorf("without TLS: got %s", plain.Status)
	}
}

// A client that sends its whole request before it reads gets the refusal over TLS too.
func TestRefusalCanBeReadOverTLS(t *testing.T) {
	cert, key := pairFiles(t, t.TempDir(), "one.example", tomorrow())
	addr, _ := serveTLS(t, refuse, cert, key)
	c, _ := connect(t, addr)
	body := make([]byte, 8<<20)
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(body))
	if n, err := c.Write(body); err != nil {
		t.Errorf("sending stopped after %d bytes: %v", n, err)
	}
	answer, err := io.ReadAll(c)
	begun, whole := strings.HasPrefix(string(answer), "HTTP/1.1 413"), strings.HasSuffix(string(answer), "too large")
	if err != nil || !begun || !whole {
		t.Errorf("got %q, %v", answer, err)
	}
}
