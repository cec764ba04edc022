// Package httpserver configures the HTTP servers of all hosts: the limits of a server, how a connection is closed, and
// how long the write of a response may take.
package httpserver

import (
	"context"
	"net"
	"net/http"
	"time"
)

// New returns a server of the handler, to be used with a Listener. Its limits are the same for every host. They do not
// limit how long a body may take to arrive: that depends on the handler.
func New(h http.Handler) *http.Server {
	draining, drain := context.WithCancel(context.Background())
	s := &http.Server{
		Handler:           noting{h},
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ConnState:         noteState,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.Background(), drainKey{}, draining.Done())
		},
	}
	s.RegisterOnShutdown(drain)
	return s
}

type drainKey struct{}

// Draining returns a channel that is closed when the server of a request begins to shut down, which waits for requests
// that are under way: one that has no end of its own, such as a stream of events, ends then. For a request of another
// server it returns nil, which is never ready.
func Draining(ctx context.Context) <-chan struct{} {
	done, _ := ctx.Value(drainKey{}).(<-chan struct{})
	return done
}

type connKey struct{}

// noting records in the connection whether the request has a body, which may be left unread.
type noting struct{ http.Handler }

// ServeHTTP implements http.Handler.
func (n noting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c := connOf(r); c != nil && r.ProtoMajor == 1 {
		if has := r.ContentLength != 0; c.body.Load() != has {
			c.body.Store(has)
		}
		c.served.Store(true)
	}
	n.Handler.ServeHTTP(w, r)
}

// connOf returns the connection of a request; nil when it is not from a Listener.
func connOf(r *http.Request) *conn {
	c, _ := r.Context().Value(connKey{}).(net.Conn)
	if over, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = over.NetConn()
	}
	own, _ := c.(*conn)
	return own
}
