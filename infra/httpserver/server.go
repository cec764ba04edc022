// Package httpserver holds what the HTTP servers of all hosts share below their handlers: the limits of a server, how a
// connection ends, and how long an answer may wait for its reader.
package httpserver

import (
	"context"
	"net"
	"net/http"
	"time"
)

// New returns a server of the handler, to be served on a Listener. Its limits are those of every host. They do not
// bound how long a body may take to arrive: that depends on the handler.
func New(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           noting{h},
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
}

type connKey struct{}

// noting tells the connection of a request whether there is a body that may be left unread.
type noting struct{ http.Handler }

// ServeHTTP implements http.Handler.
func (n noting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c := connOf(r); c != nil && r.ProtoMajor == 1 {
		if has := r.ContentLength != 0; c.body.Load() != has {
			c.body.Store(has)
		}
	}
	n.Handler.ServeHTTP(w, r)
}

// connOf returns the connection of a request; nil if it is none of a Listener.
func connOf(r *http.Request) *conn {
	c, _ := r.Context().Value(connKey{}).(net.Conn)
	if over, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = over.NetConn()
	}
	own, _ := c.(*conn)
	return own
}
