package httpserver

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// The limits of a connection.
const (
	// writeLimit is how long a client may take to accept writeStep bytes of a response.
	writeLimit = 30 * time.Second
	writeStep  = 64 << 10

	// lingerBytes and lingerLimit limit how much of a request is read after the response, and for how long; lingerQuiet is
	// the longest pause.
	lingerBytes = 72 << 20
	lingerLimit = 30 * time.Second
	lingerQuiet = 5 * time.Second
)

// Listener returns a listener for a server of New. Its connections differ from those of l in three ways.
//
// A connection that is closed after a request with a body reads on and discards the rest of the request: at most 72
// MiB, for 30 s, with pauses of 5 s. A client that sends its whole request before it reads would otherwise get a reset
// instead of the response (RFC 9112 section 9.6).
//
// A write fails when the client has not accepted the next 64 KiB within 30 s. The limit is not for the whole response,
// so a slow client gets a large response, and a client that does not read loses the connection.
//
// A connection that waits for its next request takes some 4 KiB of memory, and not the 18 KiB that a server of net/http
// has for it. Closing the listener, as a server does that is shut down, closes those that wait so.
//
// A connection from one of the proxies must begin with a header of the PROXY protocol, version 1 or 2, and has the
// client's address that the header tells. On a connection from another address such a header is no valid request.
func Listener(l net.Listener, proxies ...netip.Prefix) net.Listener {
	return &listener{Listener: l, proxies: proxies, parking: newParking()}
}

type listener struct {
	net.Listener
	proxies []netip.Prefix
	parking *parking
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	a := l.parking.next(l.Listener)
	if a.err != nil {
		return nil, a.err
	}
	c := a.Conn
	if !a.again && len(l.proxies) > 0 && contains(l.proxies, c.RemoteAddr()) {
		c = &proxied{Conn: c}
	}
	return &conn{Conn: c, parking: l.parking}, nil
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.parking.close()
	return l.Listener.Close()
}

// conn is a connection with the limits. Its methods may be called concurrently: TLS sends its last alert from the
// goroutine that closes the connection.
type conn struct {
	net.Conn
	parking *parking
	served  atomic.Bool // a request by HTTP/1 since it waited last
	body    atomic.Bool // the last request has a body
	parks   atomic.Bool // it is to be parked and not closed
	closed  atomic.Bool

	requests requests
	waits    bool      // for the next request, and may be parked
	waiting  bool      // the deadline of that is set
	until    time.Time // it waits; zero: without end

	mu    sync.Mutex
	asked time.Time // the write deadline that the server or a handler has set; zero: none
	set   time.Time // the write deadline of the connection
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if rest := c.requests.rest; len(rest) > 0 {
		n := copy(p, rest)
		if c.requests.rest = rest[n:]; n == len(rest) {
			c.requests.rest = nil
		}
		return c.requests.read(p[:n]), nil
	}
	n, err := c.Conn.Read(p)
	if c.waits {
		c.waited(n, err)
	}
	if c.closed.Load() {
		return 0, net.ErrClosed // linger reads the rest
	}
	return c.requests.read(p[:n]), err
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	if c.waits {
		return c.wait(t)
	}
	return c.Conn.SetReadDeadline(t)
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (n int, err error) {
	for {
		if err := c.extend(time.Now()); err != nil {
			return n, err
		}
		m, err := c.Conn.Write(p[n:min(n+writeStep, len(p))])
		if n += m; err != nil || n == len(p) {
			return n, err
		}
	}
}

// extend moves the write deadline. It does nothing when at least half of the limit is left, because setting a deadline
// costs more than comparing times.
func (c *conn) extend(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.set.Sub(now) > writeLimit/2 {
		return nil
	}
	c.set = now.Add(writeLimit)
	if !c.asked.IsZero() && c.asked.Before(c.set) {
		c.set = c.asked
	}
	return c.Conn.SetWriteDeadline(c.set)
}

// SetWriteDeadline implements net.Conn. The earlier of this deadline and the limit counts.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked, c.set = t, time.Time{}
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked, c.set = t, time.Time{}
	return c.Conn.SetDeadline(t)
}

// CloseWrite ends the response. The server calls it when it has not read the whole request, waits for a moment, and
// closes the connection.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(halfCloser); ok {
		return half.CloseWrite()
	}
	return nil
}

type halfCloser interface{ CloseWrite() error }

// Close implements net.Conn. It returns at once, also when the connection lingers.
func (c *conn) Close() error {
	half, ok := c.Conn.(halfCloser)
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	if c.parks.Load() && c.parking.park(c.Conn, c.until) {
		return nil
	}
	if !ok || !c.body.Load() || half.CloseWrite() != nil {
		return c.Conn.Close()
	}
	_ = c.Conn.SetDeadline(time.Now()) // ends a running Read or Write
	go c.linger()
	return nil
}

// linger discards the rest of the request, and then closes the connection.
func (c *conn) linger() {
	end := time.Now().Add(lingerLimit)
	_, _ = io.CopyN(io.Discard, until{c.Conn, end}, lingerBytes) // the connection is closed next, also after an error
	_ = c.Conn.Close()
}

// until reads until a time or a long pause.
type until struct {
	net.Conn
	end time.Time
}

// Read implements io.Reader.
func (u until) Read(p []byte) (int, error) {
	limit := time.Now().Add(lingerQuiet)
	if u.end.Before(limit) {
		limit = u.end
	}
	if err := u.SetReadDeadline(limit); err != nil {
		return 0, err
	}
	return u.Conn.Read(p)
}
