package httpserver_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/httpserver"
)

// parkable serves on loopback, and returns a connection with a reader of its responses, and the listener.
func parkable(t *testing.T, change func(*http.Server)) (net.Conn, *bufio.Reader, net.Listener) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := httpserver.Listener(inner)
	s := httpserver.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprint(w, r.Method, " ", r.URL.Path, " ", string(body))
	}))
	if change != nil {
		change(s)
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, bufio.NewReader(c), l
}

// awaitParked waits until a number of connections are parked.
func awaitParked(l net.Listener, n int) {
	for httpserver.Parked(l) != n {
		runtime.Gosched()
		time.Sleep(time.Millisecond)
	}
}

func wantResponse(t *testing.T, from *bufio.Reader, want string) {
	t.Helper()
	r, err := http.ReadResponse(from, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || string(body) != want {
		t.Fatalf("got %q, %v, want %q", body, err, want)
	}
}

// A connection that waits is parked, and its next request is served as the ones before, however its bytes come.
func TestParkedConnection(t *testing.T) {
	c, from, l := parkable(t, nil)
	for _, pieces := range [][]string{
		{"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"G", "ET /2 HTTP/1.1\r\nHo", "st: x\r\n\r", "\n"},
		{"GET /3 HTTP/1.1\nHost: x\n\n"},
	} {
		for _, piece := range pieces {
			if _, err := io.WriteString(c, piece); err != nil {
				t.Fatal(err)
			}
			awaitParked(l, 0) // its first byte has been seen
		}
		_, path, _ := strings.Cut(strings.Join(pieces, ""), "/")
		wantResponse(t, from, "GET /"+path[:1]+" ")
		awaitParked(l, 1)
	}
	// After a request with a body, and while a part of the next one has been read, it is not parked.
	fmt.Fprint(c, "POST /4 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab")
	wantResponse(t, from, "POST /4 ab")
	fmt.Fprint(c, "GET /5 HTTP/1.1\r\nHost: x\r\n\r\nGET /6 HTTP/1.1\r\nHost: x\r\n\r\nGE")
	wantResponse(t, from, "GET /5 ")
	wantResponse(t, from, "GET /6 ")
	time.Sleep(2 * httpserver.ParkAfter)
	if n := httpserver.Parked(l); n != 0 {
		t.Fatalf("%d connections are parked", n)
	}
	fmt.Fprint(c, "T /7 HTTP/1.1\r\nHost: x\r\n\r\n")
	wantResponse(t, from, "GET /7 ")
	awaitParked(l, 1)
}

// A parked connection is closed with the listener, when its other side closes it, and when it has waited for as long as
// the server lets it.
func TestParkedConnectionEnds(t *testing.T) {
	for name, end := range map[string]func(c net.Conn, l net.Listener){
		"the listener is closed": func(_ net.Conn, l net.Listener) { _ = l.Close() },
		"the client closes it":   func(c net.Conn, _ net.Listener) { _ = c.(*net.TCPConn).CloseWrite() },
		"it has waited for long": func(net.Conn, net.Listener) {},
	} {
		t.Run(name, func(t *testing.T) {
			c, from, l := parkable(t, func(s *http.Server) {
				if name == "it has waited for long" {
					s.IdleTimeout = 3 * httpserver.ParkAfter
				}
			})
			fmt.Fprint(c, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
			wantResponse(t, from, "GET /1 ")
			awaitParked(l, 1)
			end(c, l)
			if _, err := from.ReadByte(); err != io.EOF {
				t.Errorf("got %v", err)
			}
			awaitParked(l, 0)
		})
	}
}

// Whatever requests come in whatever pieces: where a connection could be parked, the server has read nothing beyond the
// request, or so much that it does not wait for the next one: it waits for four bytes.
func TestNothingIsLost(t *testing.T) {
	parked, kept := 0, 0
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		var stream []byte
		for range 1 + r.IntN(6) {
			end := []string{"\r\n", "\n"}[r.IntN(2)]
			request := "GET / HTTP/1.1" + end + "Host: x" + end
			for range r.IntN(3) {
				request += "A: " + strings.Repeat("\r", r.IntN(2)) + strings.Repeat("b", r.IntN(150)) + end
			}
			switch body := strings.Repeat("\n\r\n", r.IntN(50)); r.IntN(6) {
			case 0:
				request += fmt.Sprintf("Content-Length: %d%s%s%s", len(body), end, end, body)
			case 1:
				request += "Transfer-Encoding: chunked" + end + end + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body)+1, body+"a")
			default:
				request += end
			}
			stream = append(stream, request...)
		}
		could, beyond, err := httpserver.WouldPark(stream, r)
		if err != nil && !strings.Contains(err.Error(), "malformed") && !strings.Contains(err.Error(), "invalid") {
			t.Fatalf("seed %d: %v in %q", seed, err, stream)
		}
		for i := range could {
			switch {
			case !could[i]:
				kept++
			case beyond[i] > 0 && beyond[i] < 4:
				t.Fatalf("seed %d: %d bytes were read beyond request %d of %q", seed, beyond[i], i+1, stream)
			case beyond[i] == 0:
				parked++
			}
		}
	}
	t.Logf("%d could be parked, %d not", parked, kept)
	if parked < 300 || kept < 300 {
		t.Errorf("%d could be parked, %d not", parked, kept)
	}
}
