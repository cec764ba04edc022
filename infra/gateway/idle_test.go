package gateway_test

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/discovery/static"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/httpserver"
)

// BenchmarkIdleConnection measures the memory of a connection that has had a request and stays open: of a bare server
// of net/http, of one with the limits of package httpserver, and of one with a gateway. Each operation is a connection.
// heap and stack are in bytes, after the garbage has been collected; both ends are in this process, so that what the
// client's end takes is measured first and taken off.
func BenchmarkIdleConnection(b *testing.B) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	orders := declare("orders", function.Operation{Method: "GET", Path: "/api/orders", Access: function.Public})
	g, err := gateway.New(gateway.Config{
		System: systemOf(orders), Discovery: static.Discovery{"orders": static.Handler(hello)},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	limited := func(h http.Handler) func(net.Listener) {
		return func(l net.Listener) { _ = httpserver.New(h).Serve(httpserver.Listener(l)) }
	}
	for _, server := range []struct {
		name  string
		serve func(net.Listener)
	}{
		{"bare", func(l net.Listener) { _ = http.Serve(l, hello) }},
		{"limits", limited(hello)},
		{"gateway", limited(g)},
	} {
		b.Run(server.name, func(b *testing.B) {
			heap, stack := idleConnections(b, server.serve)
			noHeap, noStack := idleConnections(b, acceptOnly)
			b.ReportMetric(heap-noHeap, "heap-B/op")
			b.ReportMetric(stack-noStack, "stack-B/op")
		})
	}
}

// acceptOnly answers the first request of each connection by hand, and keeps no more than the connection.
func acceptOnly(l net.Listener) {
	var open []net.Conn
	buffer := make([]byte, 4096)
	for {
		c, err := l.Accept()
		if err != nil {
			for _, c := range open {
				_ = c.Close()
			}
			return
		}
		open = append(open, c)
		if _, err := c.Read(buffer); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	}
}

// idleConnections opens b.N connections with a request each, and returns the bytes that each takes while all are idle.
func idleConnections(b *testing.B, serve func(net.Listener)) (heap, stack float64) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); serve(l) }()
	open, answer := make([]net.Conn, 0, b.N), make([]byte, 4096)
	heapBefore, stackBefore := inUse()
	for range b.N {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		open = append(open, c)
		if _, err := io.WriteString(c, "GET /api/orders HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(answer); err != nil {
			b.Fatal(err)
		}
	}
	time.Sleep(time.Second) // until all of them are idle
	heapAfter, stackAfter := inUse()
	for _, c := range open {
		_ = c.Close()
	}
	_ = l.Close()
	<-done
	return float64(heapAfter-heapBefore) / float64(b.N), float64(stackAfter-stackBefore) / float64(b.N)
}

// inUse returns the bytes of live objects and of stacks. A collection halves a stack that is not used, so that some are
// needed.
func inUse() (heap, stack int64) {
	for range 5 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), int64(m.StackInuse)
}
