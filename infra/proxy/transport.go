package proxy

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of a Transport.
const (
	headerTimeout  = 70 * time.Second // a cold start and the longest wait that a caller may ask for
	idleTimeout    = 60 * time.Second // less than servers wait for the next request
	maxIdle        = 256              // connections to one host
	maxRequestBody = 64 << 10         // bytes of a request that are written before the answer is read
	maxHeader      = 1 << 20          // bytes of an answer's status line and header

	handshakeTimeout = 10 * time.Second // of TLS
)

var dialer = &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}

// Transport is an http.RoundTripper for many small requests to few hosts: it writes a request and reads its answer on
// the caller's goroutine, where http.Transport has two more for each connection and switches between them, which costs
// a gateway a sixth of its processor time. It sends requests of HTTP/1.1 over TCP, and over TLS if TLS is set.
// Upgrades, and requests whose body is large or of unknown length, are left to Other. It may be used concurrently.
//
// An answer that does not begin within 70 seconds is an error. A request is sent again when a connection that was kept
// turns out to be closed before a byte of the answer has come, and the request has no body and an idempotent method
// (RFC 9110, 9.2.2 and 9.3.1) or an Idempotency-Key.
type Transport struct {
	Other http.RoundTripper // sends the requests that Transport does not; nil: http.DefaultTransport

	// TLS returns the configuration of connections to instances of the function; "" is any function. nil leaves https to
	// Other.
	TLS func(function string) *tls.Config

	tls *tls.Config // of https; nil: it is left to Other

	headerTimeout time.Duration // until an answer begins; 0: the constant of that name

	mu   sync.Mutex
	idle map[string][]*conn // by host and port; the one that was used last is at the end
}

// NewTransport returns a Transport, with an http.Transport of the same limits for the requests that it does not send
// itself.
func NewTransport() *Transport { return &Transport{Other: newOther(nil)} }

// NewTLSTransport returns a Transport whose connections by https are made with the configuration that config returns
// for the name of a function; "" is any function.
func NewTLSTransport(config func(function string) *tls.Config) *Transport {
	t := &Transport{TLS: config}
	return t.For("")
}

// For returns a Transport to the instances of one function. It shares no connections with others, so that a connection
// of another function, whose certificate was verified for that, is not used. Without TLS it is the same Transport.
func (t *Transport) For(function string) *Transport {
	if t.TLS == nil {
		return t
	}
	own := t.TLS(function).Clone()
	own.NextProtos = []string{"http/1.1"}
	return &Transport{
		TLS: t.TLS, tls: own, Other: newOther(t.TLS(function)), headerTimeout: t.headerTimeout,
	}
}

func newOther(config *tls.Config) *http.Transport {
	return &http.Transport{
		DialContext:           dialer.DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   handshakeTimeout,
		MaxIdleConnsPerHost:   maxIdle,
		IdleConnTimeout:       idleTimeout,
		ResponseHeaderTimeout: headerTimeout,
		ForceAttemptHTTP2:     true,
	}
}

var _ http.RoundTripper = (*Transport)(nil)

// NewHTTP2Transport returns what sends requests by HTTP/2 only, without TLS to http URLs, as gRPC servers take it. How
// long an answer may take to begin is for the request's context to say: that of a stream begins when it has something
// to say.
func NewHTTP2Transport() http.RoundTripper {
	t := &http.Transport{
		DialContext: dialer.DialContext, IdleConnTimeout: idleTimeout, DisableCompression: true,
		HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second}, Protocols: new(http.Protocols),
	}
	t.Protocols.SetHTTP2(true)
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}

// conn is a connection. One request at a time uses it.
type conn struct {
	net.Conn
	raw       net.Conn // below TLS
	from      *bufio.Reader
	to        *bufio.Writer
	left      int64     // bytes of a header that may still be read; -1: no limit
	idleSince time.Time // set while it is kept
	used      bool      // a request was answered on it before
}

var errHeader = errors.New("the header of the answer is too long")

// Read reads at most as many bytes as the limit leaves, and fails at the limit.
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
	if !t.sendable(r) {
		if t.Other != nil {
			return t.Other.RoundTrip(r)
		}
		return http.DefaultTransport.RoundTrip(r)
	}
	host := r.URL.Host
	if r.URL.Port() == "" {
		host = net.JoinHostPort(r.URL.Hostname(), map[string]string{"http": "80", "https": "443"}[r.URL.Scheme])
	}
	var secure *tls.Config
	if r.URL.Scheme == "https" {
		secure, host = t.tls, tlsPrefix+host
	}
	for {
		c, err := t.connect(r.Context(), host, secure)
		if err != nil {
			closeBody(r)
			return nil, err
		}
		answer, err := t.exchange(c, host, r)
		if err == nil {
			return answer, nil
		}
		_ = c.Close()
		var unanswered *unansweredError
		closed := c.used && errors.As(err, &unanswered) && !errors.Is(err, os.ErrDeadlineExceeded)
		if !closed || !repeatable(r) || r.Context().Err() != nil {
			closeBody(r)
			return nil, err
		}
		r = r.WithContext(r.Context()) // the Request of the answer tells that it was sent again
	}
}

// sendable reports whether Transport sends the request itself.
func (t *Transport) sendable(r *http.Request) bool {
	noBody := r.Body == nil || r.Body == http.NoBody
	known := r.URL.Scheme == "http" || r.URL.Scheme == "https" && t.tls != nil
	return known && r.ContentLength >= 0 && r.ContentLength <= maxRequestBody &&
		(r.ContentLength > 0 || noBody) && r.Header["Upgrade"] == nil && r.Header["Expect"] == nil && len(r.Trailer) == 0
}

// repeatable reports whether the request can be sent once more: it has no body that was read, and sending it twice has
// the effect of sending it once.
func repeatable(r *http.Request) bool {
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

// tlsPrefix begins the names of hosts that are reached by TLS among the connections that are kept.
const tlsPrefix = "tls:"

// connect returns a connection that was kept, or a new one.
func (t *Transport) connect(ctx context.Context, host string, secure *tls.Config) (*conn, error) {
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
		if time.Since(c.idleSince) < idleTimeout && usable(c.raw) {
			return c, nil
		}
		_ = c.Close()
	}
	plain, err := dialer.DialContext(ctx, "tcp", strings.TrimPrefix(host, tlsPrefix))
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: plain, raw: plain}
	if secure != nil {
		if c.Conn, err = handshake(ctx, plain, host, secure); err != nil {
			return nil, err
		}
	}
	c.from, c.to = bufio.NewReader(c), bufio.NewWriter(c.Conn)
	return c, nil
}

// handshake begins TLS on a connection. It closes the connection if that fails.
func handshake(ctx context.Context, plain net.Conn, host string, secure *tls.Config) (net.Conn, error) {
	if secure.ServerName == "" {
		name, _, _ := net.SplitHostPort(strings.TrimPrefix(host, tlsPrefix)) // it was dialed
		secure = secure.Clone()
		secure.ServerName = name
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	c := tls.Client(plain, secure)
	if err := c.HandshakeContext(ctx); err != nil {
		_ = plain.Close()
		return nil, err
	}
	return c, nil
}

// keep stores a connection for a later request. The answer on it has been read to its end.
func (t *Transport) keep(host string, c *conn) {
	c.used, c.idleSince = true, time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.idle == nil {
		t.idle = map[string][]*conn{}
	}
	kept := t.idle[host]
	if len(kept) >= maxIdle {
		_ = c.Close()
		return
	}
	// The connections that were not used for longest are first. At most two of them are closed for each that is added,
	// so that the connections of a burst do not stay for ever.
	for range 2 {
		if len(kept) > 0 && c.idleSince.Sub(kept[0].idleSince) > idleTimeout {
			_ = kept[0].Close()
			kept = slices.Delete(kept, 0, 1)
		}
	}
	t.idle[host] = append(kept, c)
}

// CloseIdleConnections closes the connections that are kept for later requests.
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

// unansweredError says that no byte of an answer came.
type unansweredError struct{ error }

func (e *unansweredError) Unwrap() error { return e.error }

// exchange sends the request and reads the answer's header.
func (t *Transport) exchange(c *conn, host string, r *http.Request) (*http.Response, error) {
	if err := c.SetDeadline(time.Now().Add(cmp.Or(t.headerTimeout, headerTimeout))); err != nil {
		return nil, &unansweredError{err}
	}
	ctx := r.Context()
	// The end of the context ends every read and write at once.
	free := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
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
	c.left = maxHeader
	cut := err != nil
	if cut {
		// The server may have answered before it read all of the request: 413, and the connection closed.
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
	answer.Close = answer.Close || cut // the server still waits for the rest of the request
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
	if ctx.Err() != nil { // the line above removed the deadline that the end of the context had set
		return nil, because(ctx.Err())
	}
	answer.Body = &body{
		ReadCloser: answer.Body, t: t, c: c, host: host, free: free, keep: !answer.Close,
		cause: func() error { return context.Cause(ctx) },
	}
	return answer, nil
}

// readFinal reads the header of the final answer. It hands interim answers to the request's trace (RFC 9110, 15.2).
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
			return nil, fmt.Errorf("%s switched protocols without being asked", r.URL.Host)
		}
		if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.Got1xxResponse != nil {
			if err := trace.Got1xxResponse(answer.StatusCode, textproto.MIMEHeader(answer.Header)); err != nil {
				return nil, err
			}
		}
	}
	return nil, fmt.Errorf("%s sent too many interim answers", r.URL.Host)
}

// body is the body of an answer. It returns the connection to the Transport when it has been read to its end.
type body struct {
	io.ReadCloser
	t     *Transport
	c     *conn
	host  string
	free  func() bool
	cause func() error // why the context of the request has ended; nil: it has not
	keep  bool
	done  bool
	after error // returned by Read once done
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
	default:
		if cause := b.cause(); cause != nil {
			err = cause
		}
	}
	return n, err
}

// Close implements io.Closer. It closes the connection unless the answer was read to its end.
func (b *body) Close() error {
	if b.done {
		return nil
	}
	b.done, b.after = true, http.ErrBodyReadAfterClose
	b.free()
	return b.c.Close()
}
