package discovery

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"slices"
	"sync"
	"time"
)

// Limits of a Transport.
const (
	headerLimit = 70 * time.Second // a cold start and the longest wait that a caller may ask for
	idleLimit   = 60 * time.Second // less than what servers wait for the next request
	idleMost    = 256              // connections to one host
	bodyMost    = 64 << 10         // bytes of a request that are written before the answer is read
	headMost    = 1 << 20          // bytes of an answer's status line and header
)

var dialer = &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}

// Transport is an http.RoundTripper for many small requests to few hosts: it writes a request and reads its answer on the
// goroutine that asks, where http.Transport has two more for each connection and hands over between them, which costs a
// gateway a sixth of its processor time. HTTP/1.1 over plain TCP alone goes this way; TLS, upgrades, and requests whose body is
// large or of unknown length take http.Transport. It may be used concurrently.
//
// An answer that does not begin within 70 seconds is an error. A request is sent again when a connection that was kept turns out
// to be closed before a byte of the answer has come, and the method is idempotent (RFC 9110, 9.2.2 and 9.3.1) or it has an
// Idempotency-Key.
type Transport struct {
	Other http.RoundTripper // what does not go this way; nil: http.DefaultTransport

	patience time.Duration // until an answer begins; 0: headerLimit

	mu   sync.Mutex
	idle map[string][]*conn // by host and port; the one that was used last is at the end
}

var _ http.RoundTripper = (*Transport)(nil)

// conn is a connection, in the hands of one request at a time.
type conn struct {
	net.Conn
	from  *bufio.Reader
	to    *bufio.Writer
	left  int64 // bytes that may still be read of a header; -1: as many as come
	since time.Time
	used  bool // it has answered before
}

var errHeader = errors.New("the header of the answer is too long")

// Read reads what is not over the limit.
func (c *conn) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, errHeader
	}
	if c.left > 0 && int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.Conn.Read(p)
	if c.left > 0 {
		c.left -= int64(n)
	}
	return n, err
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if !small(r) {
		if t.Other != nil {
			return t.Other.RoundTrip(r)
		}
		return http.DefaultTransport.RoundTrip(r)
	}
	host := r.URL.Host
	if r.URL.Port() == "" {
		host = net.JoinHostPort(r.URL.Hostname(), "80")
	}
	for {
		c, err := t.take(r.Context(), host)
		if err != nil {
			closeBody(r)
			return nil, err
		}
		answer, err := t.ask(c, host, r)
		if err == nil {
			return answer, nil
		}
		_ = c.Close()
		var unanswered *unansweredError
		if !errors.As(err, &unanswered) || errors.Is(err, os.ErrDeadlineExceeded) || !c.used || !again(r) || r.Context().Err() != nil {
			closeBody(r)
			return nil, err
		}
	}
}

func small(r *http.Request) bool {
	return r.URL.Scheme == "http" && r.ContentLength >= 0 && r.ContentLength <= bodyMost &&
		(r.ContentLength > 0 || r.Body == nil || r.Body == http.NoBody) && r.Header["Upgrade"] == nil && r.Header["Expect"] == nil && len(r.Trailer) == 0
}

// again reports whether the request can be sent once more: nothing of it is used up, and twice is as good as once.
func again(r *http.Request) bool {
	if r.Body != nil && r.Body != http.NoBody {
		return false
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return r.Header["Idempotency-Key"] != nil
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
}

// take is a connection that was kept, or a new one.
func (t *Transport) take(ctx context.Context, host string) (*conn, error) {
	for {
		t.mu.Lock()
		kept := t.idle[host]
		if len(kept) == 0 {
			t.mu.Unlock()
			break
		}
		c := kept[len(kept)-1]
		kept[len(kept)-1] = nil
		t.idle[host] = kept[:len(kept)-1]
		t.mu.Unlock()
		if time.Since(c.since) < idleLimit && open(c.Conn) {
			return c, nil
		}
		_ = c.Close()
	}
	plain, err := dialer.DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: plain}
	c.from, c.to = bufio.NewReader(c), bufio.NewWriter(plain)
	return c, nil
}

// keep puts a connection back whose answer has been read to its end.
func (t *Transport) keep(host string, c *conn) {
	c.used, c.since = true, time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.idle == nil {
		t.idle = map[string][]*conn{}
	}
	kept := t.idle[host]
	if len(kept) >= idleMost {
		_ = c.Close()
		return
	}
	// Those that have waited longest are at the front: two go for each that comes, so that a burst's do not stay for ever.
	for range 2 {
		if len(kept) > 0 && c.since.Sub(kept[0].since) > idleLimit {
			_ = kept[0].Close()
			kept = slices.Delete(kept, 0, 1)
		}
	}
	t.idle[host] = append(kept, c)
}

// CloseIdleConnections closes what is kept for later requests.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, kept := range t.idle {
		for _, c := range kept {
			_ = c.Close()
		}
	}
	t.idle = nil
}

// unansweredError is that no byte of an answer came.
type unansweredError struct{ error }

func (e *unansweredError) Unwrap() error { return e.error }

// ask sends the request and reads the answer's header.
func (t *Transport) ask(c *conn, host string, r *http.Request) (*http.Response, error) {
	if err := c.SetDeadline(time.Now().Add(cmp.Or(t.patience, headerLimit))); err != nil {
		return nil, &unansweredError{err}
	}
	ctx := r.Context()
	free := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) }) // whoever waits is let go
	because := func(err error) error {
		if free(); ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	err := r.Write(c.to)
	if err == nil {
		err = c.to.Flush()
	}
	c.left = headMost
	cut := err != nil
	if cut {
		// It may have been answered before all of it was read: 413, and the connection closed.
		if _, peeked := c.from.Peek(1); peeked != nil {
			return nil, because(&unansweredError{err})
		}
	} else if _, err = c.from.Peek(1); err != nil {
		return nil, because(&unansweredError{err})
	}
	answer, err := readFinal(c, r)
	if err != nil {
		return nil, because(err)
	}
	c.left = -1
	answer.Close = answer.Close || cut // the rest of the request is owed
	if !answer.Close && answer.ContentLength == 0 {
		if free() && c.from.Buffered() == 0 && c.SetDeadline(time.Time{}) == nil {
			t.keep(host, c)
		} else {
			_ = c.Close()
		}
		return answer, nil
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return nil, because(err)
	}
	if ctx.Err() != nil { // the deadline was set before it was lifted
		return nil, because(ctx.Err())
	}
	answer.Body = &body{ReadCloser: answer.Body, t: t, c: c, host: host, free: free, ctx: ctx, keep: !answer.Close}
	return answer, nil
}

// readFinal reads an answer's header, and passes on those that come before it (RFC 9110, 15.2).
func readFinal(c *conn, r *http.Request) (*http.Response, error) {
	for range 8 {
		answer, err := http.ReadResponse(c.from, r)
		if err != nil {
			return nil, err
		}
		if answer.StatusCode >= 200 {
			return answer, nil
		}
		if answer.StatusCode == http.StatusSwitchingProtocols {
			return nil, fmt.Errorf("%s switches protocols unasked", r.URL.Host)
		}
		if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.Got1xxResponse != nil {
			if err := trace.Got1xxResponse(answer.StatusCode, textproto.MIMEHeader(answer.Header)); err != nil {
				return nil, err
			}
		}
	}
	return nil, fmt.Errorf("%s has more to say than an answer", r.URL.Host)
}

// body gives the connection back when it has been read to its end.
type body struct {
	io.ReadCloser
	t     *Transport
	c     *conn
	host  string
	free  func() bool
	ctx   context.Context
	keep  bool
	done  bool
	after error // what is read then
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.done {
		return 0, b.after
	}
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == nil:
	case err == io.EOF:
		b.done, b.after = true, io.EOF
		if b.free() && b.keep && b.c.from.Buffered() == 0 {
			b.t.keep(b.host, b.c)
		} else {
			_ = b.c.Close()
		}
	case b.ctx.Err() != nil:
		err = context.Cause(b.ctx)
	}
	return n, err
}

// Close implements io.Closer. A connection whose answer was not read to its end is of no further use.
func (b *body) Close() error {
	if b.done {
		return nil
	}
	b.done, b.after = true, http.ErrBodyReadAfterClose
	b.free()
	return b.c.Close()
}
