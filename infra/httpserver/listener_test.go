package httpserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebb-dev/ebb/infra/httpserver"
)

// serve serves the handler on loopback until the test ends, and returns the address.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := httpserver.New(h)
	go func() { _ = s.Serve(httpserver.Listener(l)) }()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

func refuse(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusRequestEntityTooLarge)
	_, _ = io.WriteString(w, "too large")
}

// A client that sends its whole request before it reads the response gets the refusal.
func TestRefusalCanBeRead(t *testing.T) {
	addr := serve(t, refuse)
	for _, mib := range []int{2, 8, 64} {
		body := make([]byte, mib<<20)
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(body))
		if n, err := c.Write(body); err != nil {
			t.Errorf("%d MiB: sending stopped after %d bytes: %v", mib, n, err)
		}
		answer, err := io.ReadAll(c)
		begun, whole := strings.HasPrefix(string(answer), "HTTP/1.1 413"), strings.HasSuffix(string(answer), "too large")
		if err != nil || !begun || !whole {
			t.Errorf("%d MiB: got %q, %v", mib, answer, err)
		}
		c.Close()
	}
}

func TestRefusalCanBeReadByGo(t *testing.T) {
	addr := serve(t, refuse)
	for _, mib := range []int{2, 8, 64} {
		for name, body := range map[string]io.Reader{
			"known length":   bytes.NewReader(make([]byte, mib<<20)),
			"unknown length": io.MultiReader(bytes.NewReader(make([]byte, mib<<20))),
		} {
			answer, err := http.Post("http://"+addr, "application/json", body)
			if err != nil {
				t.Errorf("%d MiB, %s: %v", mib, name, err)
				continue
			}
			text, err := io.ReadAll(answer.Body)
			if answer.Body.Close(); err != nil || answer.StatusCode != 413 || string(text) != "too large" {
				t.Errorf("%d MiB, %s: got %d %q, %v", mib, name, answer.StatusCode, text, err)
			}
		}
	}
}

func TestRefusalCanBeReadByPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	addr := serve(t, refuse)
	const script = `
import sys, urllib.error, urllib.request
for mib in (2, 8, 64):
    try:
        urllib.request.urlopen(urllib.request.Request(sys.argv[1], data=bytes(mib << 20)))
    except urllib.error.HTTPError as e:
        print(mib, e.code, e.read().decode())
`
	out, err := exec.CommandContext(t.Context(), python, "-c", script, "http://"+addr).CombinedOutput()
	if want := "2 413 too large\n8 413 too large\n64 413 too large\n"; err != nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}

// pipes is a listener of in-memory connections, which support deadlines.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// dial serves the handler on one connection, and returns it after sending a request.
func dial(h http.HandlerFunc) (client net.Conn, stop func()) {
	client, server := net.Pipe()
	l := make(pipes, 1)
	l <- server
	s := httpserver.New(h)
	go func() { _ = s.Serve(httpserver.Listener(l)) }()
	_, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	return client, func() { _ = client.Close(); _ = s.Close() }
}

const large = 1 << 20

// A client that does not read its response does not block the handler for ever.
func TestClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, failed := time.Now(), make(chan error, 1)
		_, stop := dial(func(w http.ResponseWriter, _ *http.Request) {
			_, err := w.Write(make([]byte, large))
			failed <- err
		})
		defer stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		select {
		case err := <-failed:
			if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took != 30*time.Second {
				t.Errorf("got %v after %v, want a timeout after 30 s", err, took)
			}
		case <-ctx.Done():
			t.Error("the handler still writes after an hour")
		}
	})
}

// A client that reads slowly gets its whole response, however long that takes.
func TestSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, stop := dial(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, large)) })
		defer stop()
		got, piece, began := 0, make([]byte, 64<<10), time.Now()
		for {
			time.Sleep(10 * time.Second)
			n, err := io.ReadFull(client, piece)
			if got += n; err != nil {
				break
			}
		}
		if got < large || time.Since(began) < time.Minute {
			t.Errorf("got %d bytes in %v, want all of %d", got, time.Since(began), large)
		}
	})
}

// A client that sends its header slowly loses the connection after ten seconds, however often it sends a byte.
func TestSlowHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		l := make(pipes, 1)
		l <- server
		called := false
		s := httpserver.New(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
		go func() { _ = s.Serve(httpserver.Listener(l)) }()
		go func() { _, _ = io.Copy(io.Discard, client) }()
		began := time.Now()
		_, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\nX-A: ")
		for err == nil && time.Since(began) < time.Hour {
			time.Sleep(time.Second)
			_, err = io.WriteString(client, "a")
		}
		if took := time.Since(began); took > 20*time.Second || called {
			t.Errorf("the connection ended after %v, called %v", took, called)
		}
		_ = client.Close()
		_ = s.Close()
	})
}

// A request that has no end of its own learns that the server shuts down, which then need not wait for it. One that was
// not received by such a server never learns it.
func TestDraining(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	begun := make(chan struct{})
	s := httpserver.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		close(begun)
		<-httpserver.Draining(r.Context())
	}))
	go func() { _ = s.Serve(httpserver.Listener(l)) }()
	defer s.Close()
	answer, err := http.Get("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	<-begun
	limited, cancel := context.WithTimeout(t.Context(), time.Minute) // only when it is broken
	defer cancel()
	if err := s.Shutdown(limited); err != nil {
		t.Errorf("it waits for the request: %v", err)
	}
	if httpserver.Draining(context.Background()) != nil {
		t.Error("a request of no server learns of a shutdown")
	}
}
