package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/failsafehttp"

	"github.com/ebb-dev/ebb/infra/balance"
	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/internal/timeoutheader"
)

// carriage is one request on its way to instances of other processes. It is the transport of its own ReverseProxy.
type carriage struct {
	proxy     httputil.ReverseProxy
	p         *Proxy
	tries     *Tries
	instances []discovery.Instance

	unreadable atomic.Bool // the body of the caller could not be read

	mu    sync.Mutex
	first *balance.Member // chosen for the first try, which has not begun; nil: it has
	tried []*balance.Member
	again int // how often a transport has sent a try once more
	sent  []*try
	ended bool
}

// try is a request that was sent to an instance.
type try struct {
	member  *balance.Member
	cancel  context.CancelCauseFunc
	answer  *http.Response
	err     error
	verdict verdict
}

// verdict is what the end of a try says about the instance.
type verdict int

const (
	unknown verdict = iota
	good
	bad
)

// errTryTimeout is the end of a try whose answer has not begun in time.
type errTryTimeout struct{}

func (errTryTimeout) Error() string   { return "the answer did not begin in time" }
func (errTryTimeout) Is(e error) bool { return e == context.DeadlineExceeded }

// RoundTrip implements http.RoundTripper: it sends the request to one instance after the other, as tries says.
func (c *carriage) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &callerBody{ReadCloser: r.Body, failed: &c.unreadable}
	}
	answer, err := c.carry(r)
	if err != nil && c.unreadable.Load() {
		err = &unreadableError{err}
	}
	return answer, err
}

// callerBody notes that the body of the caller could not be read to its end.
type callerBody struct {
	io.ReadCloser
	failed *atomic.Bool
}

// Read implements io.Reader.
func (b *callerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.failed.Store(true)
	}
	return n, err
}

// unreadableError is the failure of a request whose body the caller did not send to its end. It says nothing about the
// function.
type unreadableError struct{ error }

func (e *unreadableError) Unwrap() error { return e.error }

// carry sends the request to one instance after the other, as tries says.
func (c *carriage) carry(r *http.Request) (*http.Response, error) {
	executor := c.tries.executor(r)
	if executor == nil {
		return c.send(r)
	}
	answer, err := failsafehttp.NewRoundTripperWithExecutor(sender{c}, executor).RoundTrip(r)
	if errors.Is(err, budget.ErrExceeded) {
		return c.last() // there are too many retries: what the last try got counts
	}
	return answer, err
}

// last returns the answer of the try that ended last.
func (c *carriage) last() (*http.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.sent[len(c.sent)-1]
	return t.answer, t.err
}

// sender sends each try of a carriage.
type sender struct{ c *carriage }

// RoundTrip implements http.RoundTripper.
func (s sender) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := s.c.send(r.Clone(r.Context())) // another try may use the same request at the same time
	if err == nil && failedStatus(answer.StatusCode) {
		store(answer)
	}
	return answer, err
}

// store reads the body of a failed answer, so that it can still be carried when no other try does better and the
// context of this one has ended. A body over 64 KiB stays where it is.
func store(answer *http.Response) {
	const most = 64 << 10
	var body bytes.Buffer
	if n, err := io.CopyN(&body, answer.Body, most+1); err == nil || n > most {
		answer.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(&body, answer.Body), answer.Body}
		return
	}
	_ = answer.Body.Close()
	answer.Body = io.NopCloser(&body)
}

// errNoOther says that no instance is left that a request can be sent to.
var errNoOther = errors.New("there is no instance to try")

// next returns the instance of the next try.
func (c *carriage) next(r *http.Request) *balance.Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.first
	if c.first = nil; m == nil {
		m = c.p.pool.Pick(r, c.instances, c.tried...)
	}
	if m != nil {
		c.tried = append(c.tried, m)
	}
	return m
}

// send sends the request to an instance. It changes the request.
func (c *carriage) send(r *http.Request) (*http.Response, error) {
	t := &try{member: c.next(r), cancel: func(error) {}}
	switch {
	case t.member == nil:
		return nil, errNoOther
	case t.member.Handler != nil: // it came while the request was on its way
		t.member.Cancel()
		return nil, errNoOther
	}
	ctx := r.Context()
	if c.tries != nil && c.tries.cfg.Timeout > 0 {
		var tryCtx context.Context
		tryCtx, t.cancel = context.WithCancelCause(ctx)
		timer := time.AfterFunc(c.tries.cfg.Timeout, func() { t.cancel(errTryTimeout{}) })
		defer timer.Stop()
		r = r.WithContext(tryCtx)
		timeoutheader.Set(r.Header, c.tries.cfg.Timeout)
	}
	if deadline, ok := ctx.Deadline(); ok {
		timeoutheader.Set(r.Header, time.Until(deadline))
	}
	(&httputil.ProxyRequest{Out: r}).SetURL(t.member.Instance.Address)
	t.answer, t.err = c.p.cfg.Transport.RoundTrip(r)
	switch {
	case t.err == nil:
	case context.Cause(r.Context()) == (errTryTimeout{}):
		t.err = errTryTimeout{}
	case ctx.Err() == context.DeadlineExceeded && !errors.Is(t.err, context.DeadlineExceeded):
		t.err = fmt.Errorf("%w: %w", context.DeadlineExceeded, t.err) // a dialer has an error of its own
	}
	if t.verdict = judge(ctx, t.answer, t.err); c.unreadable.Load() {
		t.verdict = unknown
	}
	if t.err != nil {
		t.end()
		t.member = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, t)
	if t.err == nil && t.answer.Request != nil && t.answer.Request != r { // see Transport
		c.again++
	}
	if c.ended && t.err == nil { // another try has won, and its answer is carried already
		t.end()
	}
	return t.answer, t.err
}

// times returns how often the request was sent.
func (c *carriage) times() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.tried) + c.again
}

// judge returns what an answer says about the instance. The end of the caller says nothing.
func judge(ctx context.Context, answer *http.Response, err error) verdict {
	switch {
	case err != nil && ctx.Err() == context.Canceled:
		return unknown
	case err != nil:
		return bad
	}
	if failedStatus(answer.StatusCode) {
		return bad
	}
	return good
}

// failedStatus reports whether the status says that the instance, or the way to it, has failed.
func failedStatus(status int) bool {
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// end notes the end of the tries, when the answer was carried or the caller has gone.
func (c *carriage) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.first != nil {
		c.first.Cancel()
	}
	for _, t := range c.sent {
		if t.member != nil {
			t.end()
		}
	}
}

// end notes the end of a try, and drops an answer that was not carried.
func (t *try) end() {
	if t.answer != nil && t.answer.Body != nil { // after a protocol switch it is nil
		_ = t.answer.Body.Close()
	}
	t.cancel(nil)
	if t.verdict == unknown {
		t.member.Cancel()
	} else {
		t.member.Done(t.verdict == bad)
	}
}
