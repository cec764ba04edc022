package httpserver

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// parkAfter is how long a connection waits for its next request before it is parked.
const parkAfter = 500 * time.Millisecond

// parking holds connections that wait for their next request. The server of net/http has a goroutine with a stack of 8
// KiB and two buffers of 4 KiB for each connection; a parked one has a goroutine that waits for a byte. When that has
// come, the connection is accepted again, and the server reads the request as the first of a new one.
//
// A connection is parked only if the server has certainly read a request to its end and nothing beyond it: without TLS,
// by HTTP/1, after a request without a body.
type parking struct {
	arrivals chan arrival
	accept   sync.Once
	done     chan struct{} // closed with the listener

	mu     sync.Mutex
	closed bool
	parked map[net.Conn]struct{}
}

// arrival is a connection that is to be served, or the error of the listener.
type arrival struct {
	net.Conn
	again bool // it was parked
	err   error
}

func newParking() *parking {
	return &parking{arrivals: make(chan arrival), done: make(chan struct{}), parked: map[net.Conn]struct{}{}}
}

// next returns the next connection of a listener, or of those that were parked.
func (p *parking) next(l net.Listener) arrival {
	p.accept.Do(func() {
		go func() {
			for p.arrive(accepted(l)) {
				continue
			}
		}()
	})
	select {
	case a := <-p.arrivals:
		return a
	case <-p.done:
		return arrival{err: net.ErrClosed}
	}
}

func accepted(l net.Listener) arrival {
	c, err := l.Accept()
	return arrival{Conn: c, err: err}
}

// arrive hands over a connection to be served. It returns false once the listener is closed.
func (p *parking) arrive(a arrival) bool {
	select {
	case p.arrivals <- a:
		return !errors.Is(a.err, net.ErrClosed)
	case <-p.done:
		if a.err == nil {
			_ = a.Conn.Close()
		}
		return false
	}
}

// park waits for the next request on a connection, until a time. It returns false when the listener is closed.
func (p *parking) park(c net.Conn, until time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.parked[c] = struct{}{}
	go func() {
		came := c.SetReadDeadline(until) == nil && readable(c)
		p.mu.Lock()
		delete(p.parked, c)
		p.mu.Unlock()
		if came && c.SetReadDeadline(time.Time{}) == nil {
			p.arrive(arrival{Conn: c, again: true})
			return
		}
		_ = c.Close()
	}()
	return true
}

// close closes all that is parked.
func (p *parking) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		close(p.done)
	}
	for c := range p.parked {
		_ = c.Close()
	}
}

// requests follows what the server reads on a connection, so that it is known whether it has read anything beyond the
// end of a request without a body. It is used by one goroutine at a time: that of the connection, and the one that
// reads for it while a handler runs.
type requests struct {
	lineEnd int    // how much of the end of a header has come: 1 after LF, 2 after LF CR
	ended   bool   // the header has come to its end
	beyond  bool   // more than the header was read
	rest    []byte // has come, and was not read
}

// read returns how many of the bytes that have come the server may read: no more than up to the end of the header.
func (r *requests) read(b []byte) int {
	if r.ended {
		r.beyond = r.beyond || len(b) > 0
		for _, last := range b[max(len(b)-2, 0):] { // the next header may begin here
			r.line(last)
		}
		return len(b)
	}
	for i := 0; i < len(b); {
		if r.lineEnd == 0 {
			n := bytes.IndexByte(b[i:], '\n')
			if n < 0 {
				return len(b)
			}
			i, r.lineEnd = i+n+1, 1
			continue
		}
		if i++; b[i-1] == '\n' {
			r.ended, r.lineEnd = true, 0
			if i < len(b) {
				r.rest = append(bytes.Clone(b[i:]), r.rest...)
			}
			return i
		}
		r.line(b[i-1])
	}
	return len(b)
}

// line notes a byte of a header.
func (r *requests) line(b byte) {
	switch {
	case b == '\n':
		r.lineEnd = 1
	case b == '\r' && r.lineEnd == 1:
		r.lineEnd = 2
	default:
		r.lineEnd = 0
	}
}

// next begins with the next request, and reports whether the last one was read to its end and nothing beyond, if it has
// no body. Where several requests came at once it may have been the header of a later one that has come to its end:
// then the server has all of that, and need not wait for it.
func (r *requests) next() bool {
	whole := r.ended && !r.beyond && len(r.rest) == 0
	r.ended, r.beyond = false, false
	return whole
}

// noteState is the hook of a server: the connection waits for its next request.
func noteState(c net.Conn, s http.ConnState) {
	own, ok := c.(*conn) // by TLS it is a *tls.Conn
	if !ok || s != http.StateIdle || !own.served.Swap(false) {
		return
	}
	whole := own.requests.next()
	_, tcp := own.Conn.(*net.TCPConn)
	own.waits, own.waiting = canPark && whole && tcp && !own.body.Load(), false
}

// wait sets the deadline of a connection that waits for its next request. The next one that the server sets, without
// having read, says that it has the request already.
func (c *conn) wait(t time.Time) error {
	if c.waiting {
		c.waits = false
		return c.Conn.SetReadDeadline(t)
	}
	c.waiting, c.until = true, t
	if short := time.Now().Add(parkAfter); t.IsZero() || short.Before(t) {
		t = short
	}
	return c.Conn.SetReadDeadline(t)
}

// waited notes the end of a wait, by bytes or by the deadline, after which the connection is parked.
func (c *conn) waited(n int, err error) {
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && (c.until.IsZero() || time.Now().Before(c.until)) {
		c.parks.Store(true)
	}
	c.waits = false
}
