package httpserver_test

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebb-dev/ebb/infra/httpserver"
)

// version2 returns a binary header with a command (0x20 LOCAL, 0x21 PROXY), a family (0x11 TCP over IPv4, 0x21 over
// IPv6) and addresses.
func version2(command, family byte, addresses []byte) string {
	h := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), command, family)
	h = binary.BigEndian.AppendUint16(h, uint16(len(addresses)))
	return string(append(h, addresses...))
}

func whoAsks(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) }

// behind serves on loopback, with proxies at the networks, and returns the address.
func behind(t *testing.T, networks ...string) string {
	t.Helper()
	proxies, err := httpserver.Networks(networks)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := httpserver.New(http.HandlerFunc(whoAsks))
	go func() { _ = s.Serve(httpserver.Listener(l, proxies...)) }()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

// raw sends a text on a new connection, and returns the status and body of the answer and the connection's own address.
// The status is 0 if the connection was reset.
func raw(t *testing.T, addr, text string) (status int, body, own string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, text)
	own = c.LocalAddr().String()
	w, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, "", own
	}
	b, err := io.ReadAll(w.Body)
	if err != nil {
		return 0, "", own
	}
	return w.StatusCode, string(b), own
}

const plainRequest = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

// A connection from a named proxy has the address that its header tells, in both versions.
func TestProxyHeader(t *testing.T) {
	addr := behind(t, "127.0.0.0/8")
	four := append(netip.MustParseAddr("203.0.113.7").AsSlice(), 192, 0, 2, 1, 0x30, 0x39, 1, 187)
	six := netip.MustParseAddr("2001:db8::7").AsSlice()
	six = append(append(six, six...), 0x30, 0x39, 1, 187)
	tlv := append(append([]byte{}, four...), 4, 0, 3, 'a', 'b', 'c') // with a field that is to be skipped
	for name, c := range map[string]struct{ header, want string }{
		"version 1, IPv4":      {"PROXY TCP4 203.0.113.7 192.0.2.1 12345 443\r\n", "203.0.113.7:12345"},
		"version 1, IPv6":      {"PROXY TCP6 2001:db8::7 2001:db8::1 12345 443\r\n", "[2001:db8::7]:12345"},
		"version 2, IPv4":      {version2(0x21, 0x11, four), "203.0.113.7:12345"},
		"version 2, IPv6":      {version2(0x21, 0x21, six), "[2001:db8::7]:12345"},
		"version 2, a field":   {version2(0x21, 0x11, tlv), "203.0.113.7:12345"},
		"version 1, unknown":   {"PROXY UNKNOWN\r\n", "own"},
		"version 2, local":     {version2(0x20, 0x00, nil), "own"},
		"version 2, local, IP": {version2(0x20, 0x11, four), "own"},
	} {
		status, body, own := raw(t, addr, c.header+plainRequest)
		if c.want == "own" {
			c.want = own
		}
		if status != http.StatusOK || body != c.want {
			t.Errorf("%s: got %d %s, want %s", name, status, body, c.want)
		}
	}
}

// A connection from a named proxy without a valid header, or with two, is refused: its real client is not known.
func TestProxyHeaderIsMissing(t *testing.T) {
	addr := behind(t, "127.0.0.1")
	one := "PROXY TCP4 203.0.113.7 192.0.2.1 12345 443\r\n"
	for name, text := range map[string]string{
		"none":          plainRequest,
		"two":           one + one + plainRequest,
		"no address":    "PROXY TCP4 somebody 192.0.2.1 12345 443\r\n" + plainRequest,
		"wrong family":  "PROXY TCP4 2001:db8::7 192.0.2.1 12345 443\r\n" + plainRequest,
		"too long":      "PROXY TCP4 " + strings.Repeat("1", 200) + "\r\n" + plainRequest,
		"no line end":   "PROXY TCP4 203.0.113.7 192.0.2.1 12345 443\n" + plainRequest,
		"bad version 2": version2(0x31, 0x11, make([]byte, 12)) + plainRequest,
		"short address": version2(0x21, 0x11, make([]byte, 4)) + plainRequest,
		"large fields":  version2(0x21, 0x11, make([]byte, 60_000)) + plainRequest,
	} {
		if status, body, _ := raw(t, addr, text); status != http.StatusBadRequest && status != 0 {
			t.Errorf("%s: got %d %s", name, status, body)
		}
	}
}

// A stranger cannot choose its address: a header on a connection that is not from a named proxy is no request.
func TestProxyHeaderOfStranger(t *testing.T) {
	for _, addr := range []string{behind(t), behind(t, "192.0.2.0/24", "2001:db8::/32")} {
		for name, header := range map[string]string{
			"version 1": "PROXY TCP4 203.0.113.7 192.0.2.1 12345 443\r\n",
			"version 2": version2(0x21, 0x11, make([]byte, 12)),
		} {
			if status, body, _ := raw(t, addr, header+plainRequest); status != http.StatusBadRequest && status != 0 {
				t.Errorf("%s: got %d %s", name, status, body)
			}
		}
		if status, body, own := raw(t, addr, plainRequest); status != http.StatusOK || body != own {
			t.Errorf("without: got %d %s, want %s", status, body, own)
		}
	}
}

// The header comes before TLS.
func TestProxyHeaderAndTLS(t *testing.T) {
	cert, key := pairFiles(t, t.TempDir(), "one.example", tomorrow())
	shown, err := httpserver.OpenCertificate(cert, key, slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := httpserver.New(http.HandlerFunc(whoAsks))
	s.TLSConfig = shown.TLS()
	go func() { _ = s.ServeTLS(httpserver.Listener(l, netip.MustParsePrefix("127.0.0.0/8")), "", "") }()
	t.Cleanup(func() { _ = s.Close() })
	under, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer under.Close()
	fmt.Fprint(under, "PROXY TCP4 203.0.113.7 192.0.2.1 12345 443\r\n")
	c := tls.Client(under, &tls.Config{InsecureSkipVerify: true}) // the certificate is not what is tested
	fmt.Fprint(c, plainRequest)
	answer, err := io.ReadAll(c)
	if err != nil || !strings.HasSuffix(string(answer), "203.0.113.7:12345") {
		t.Errorf("got %q, %v", answer, err)
	}
}

// A client behind a proxy that sends its whole request before it reads gets the refusal.
func TestRefusalCanBeReadThroughProxy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := httpserver.New(http.HandlerFunc(refuse))
	go func() { _ = s.Serve(httpserver.Listener(l, netip.MustParsePrefix("127.0.0.0/8"))) }()
	t.Cleanup(func() { _ = s.Close() })
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	body := make([]byte, 8<<20)
	fmt.Fprint(c, "PROXY TCP4 203.0.113.7 192.0.2.1 12345 443\r\n")
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

// fromProxy are in-memory connections from 192.0.2.1.
type fromProxy struct{ pipes }

func (f fromProxy) Accept() (net.Conn, error) {
	c, err := f.pipes.Accept()
	return at{c}, err
}

type at struct{ net.Conn }

func (at) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }

// A proxy that does not finish its header loses the connection.
func TestProxyHeaderIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		l := fromProxy{make(pipes, 1)}
		l.pipes <- server
		s := httpserver.New(http.HandlerFunc(whoAsks))
		go func() { _ = s.Serve(httpserver.Listener(l, netip.MustParsePrefix("192.0.2.1/32"))) }()
		defer s.Close()
		fmt.Fprint(client, "PROX")
		began := time.Now()
		if err := client.SetReadDeadline(began.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		_, err := io.ReadAll(client)
		if took := time.Since(began); took != 10*time.Second || os.IsTimeout(err) {
			t.Errorf("it ended after %v: %v", took, err)
		}
	})
}
