package gateway_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/httpserver"
)

// The types and flags of frames of HTTP/2 (RFC 9113, 6) that the attacks use.
const (
	h2Headers, h2Reset, h2Settings, h2Away, h2Continuation = 0x1, 0x3, 0x4, 0x7, 0x9

	h2EndStream, h2EndHeaders = 0x1, 0x4
)

// h2Frame returns a frame.
func h2Frame(kind, flags byte, stream uint32, payload string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	b = append(b, flags)
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

// h2Get is the header of GET /api/a, compressed by HPACK: GET, http, the path and the authority.
const h2Get = "\x82\x86\x04\x06/api/a\x01\x01x"

// serveH2 serves a gateway by HTTP/2 without TLS, and returns its address.
func serveH2(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	f := newFixture(t, with("a", h, function.Operation{Method: "GET", Path: "/api/a", Access: function.Public}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := httpserver.New(f.gateway)
	s.Protocols = &http.Protocols{}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = s.Serve(httpserver.Listener(l)) }()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

// dialH2 opens a connection of HTTP/2. When the server has ended it, away has the reason of its GOAWAY frame, or 0
// without one.
func dialH2(t *testing.T, address string) (c net.Conn, away <-chan uint32) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(h2Frame(h2Settings, 0, 0, "")); err != nil {
		t.Fatal(err)
	}
	reason := make(chan uint32, 1)
	go func() {
		var last uint32
		defer func() { reason <- last }()
		for {
			var head [9]byte
			if _, err := io.ReadFull(c, head[:]); err != nil {
				return
			}
			payload := make([]byte, binary.BigEndian.Uint32(head[:4])>>8)
			if _, err := io.ReadFull(c, payload); err != nil {
				return
			}
			if head[3] == h2Away && len(payload) >= 8 {
				last = binary.BigEndian.Uint32(payload[4:8])
			}
		}
	}()
	return c, reason
}

// A client that opens and resets streams as fast as it can has no more requests under way than a client may, and loses
// the connection. Others are served.
func TestRapidReset(t *testing.T) {
	var running, most atomic.Int64
	release := make(chan struct{})
	address := serveH2(t, func(w http.ResponseWriter, _ *http.Request) {
		n := running.Add(1)
		defer running.Add(-1)
		for {
			if last := most.Load(); n <= last || most.CompareAndSwap(last, n) {
				break
			}
		}
		<-release // the attack is worst when the function takes no notice of requests that are taken back
		w.WriteHeader(http.StatusOK)
	})
	c, away := dialH2(t, address)
	for stream := uint32(1); stream < 100_000; stream += 2 {
		pair := append(h2Frame(h2Headers, h2EndStream|h2EndHeaders, stream, h2Get),
			h2Frame(h2Reset, 0, stream, "\x00\x00\x00\x08")...)
		if _, err := c.Write(pair); err != nil {
			break
		}
	}
	const calm = 11 // ENHANCE_YOUR_CALM
	if reason := <-away; reason != calm && reason != 0 {
		t.Errorf("the connection ended with %d, want %d", reason, calm)
	}
	if n := most.Load(); n == 0 || n > 250 {
		t.Errorf("%d requests were under way at once, want at most 250", n)
	}
	close(release)
	answer, err := http.Get("http://" + address + "/api/a")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("another client got %d", answer.StatusCode)
	}
}

// A header that never ends ends the connection, before the function is called and before much of it was read.
func TestContinuationFlood(t *testing.T) {
	var called atomic.Bool
	address := serveH2(t, func(http.ResponseWriter, *http.Request) { called.Store(true) })
	c, away := dialH2(t, address)
	// Each frame has a field of 16,000 bytes, which is not added to the table of HPACK.
	field := "\x00\x01a\x7f\x81\x7c" + strings.Repeat("b", 16_000)
	sent := 0
	_, err := c.Write(h2Frame(h2Headers, h2EndStream, 1, h2Get))
	for ; err == nil && sent < 32<<20; sent += len(field) {
		_, err = c.Write(h2Frame(h2Continuation, 0, 1, field))
	}
	if err == nil {
		t.Errorf("the server has read %d MiB of a header", sent>>20)
	}
	<-away
	if called.Load() {
		t.Error("the function was called")
	}
}
