// Package proxy carries a request to an instance of a function and its answer back.
//
// An instance of the same process is called with the request itself, without a copy; to another the request is sent
// over HTTP, with the time that it has left in the header field Ebb-Timeout, in milliseconds. A request is sent to one
// instance only, unless Tries says otherwise: see Transport for the one case in which it is sent again, to the same
// one.
package proxy

import (
	"context"
	"errors"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/balance"
	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/problem"
)

// Config is how a Proxy finds and reaches instances. Discovery is required.
type Config struct {
	Discovery discovery.Discovery
	Balance   balance.Config    // chooses among the instances of this function
	Transport http.RoundTripper // sends requests to instances of other processes; nil: NewTransport
}

// Proxy is an http.Handler that serves the requests of one function by its instances. It is safe for concurrent use.
//
// A request that cannot be carried is answered with a problem document: 503 when there is no instance or the chosen one
// cannot be reached, 504 when the deadline of the request's context passes, 413 when reading the request's body fails
// with a *http.MaxBytesError, and 400 when it fails otherwise.
type Proxy struct {
	name string
	cfg  Config
	pool *balance.Pool
}

var _ http.Handler = (*Proxy)(nil)

// New returns the proxy of the function of that name.
func New(name string, cfg Config) *Proxy {
	if cfg.Transport == nil {
		cfg.Transport = NewTransport()
	}
	if t, ok := cfg.Transport.(*Transport); ok {
		cfg.Transport = t.For(name)
	}
	if cfg.Balance.Check.Transport == nil {
		cfg.Balance.Check.Transport = cfg.Transport
	}
	local := func(i discovery.Instance) http.Handler { return i.Handler }
	return &Proxy{name: name, cfg: cfg, pool: balance.NewPool(cfg.Balance, local)}
}

// Pool returns the instances with what is known of their load and their health.
func (p *Proxy) Pool() *balance.Pool { return p.pool }

// ServeHTTP implements http.Handler: it tries a request once.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.Serve(w, r, nil) }

// Serve serves a request by an instance of the function, which is tried again at others as tries says; nil: it is not.
// A request that an instance of this process gets is tried once: it has no other. It returns how often the request was
// sent to instances of other processes: after more than once, one of them may have carried it out, or do so yet, and
// another one have answered.
func (p *Proxy) Serve(w http.ResponseWriter, r *http.Request, tries *Tries) (sent int) {
	instances, err := p.cfg.Discovery.Instances(r.Context(), p.name)
	if err != nil {
		problem.Write(w, r, err)
		return 0
	}
	m := p.pool.Pick(r, instances)
	switch {
	case m == nil:
		problem.Write(w, r, fault.New(fault.Unavailable, unreachable))
	case m.Handler != nil:
		defer m.Done(false) // also after a panic; its answers say nothing about another instance
		m.Handler.ServeHTTP(w, r)
	default:
		c := &carriage{p: p, tries: tries, instances: instances, first: m}
		defer c.end()
		c.proxy = httputil.ReverseProxy{
			Transport: c, BufferPool: buffers{}, Rewrite: forward, ErrorHandler: answerError,
		}
		c.proxy.ServeHTTP(w, r)
		return c.times()
	}
	return 0
}

const unreachable = "the function that answers this cannot be reached just now"

// forward adds the address of the client. Those of earlier proxies are kept: function.ClientAddr knows which of them to
// trust. So is the scheme that an earlier proxy told, where TLS ends: cookies are for TLS only then.
func forward(r *httputil.ProxyRequest) {
	r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
	r.SetXForwarded()
	if told := r.In.Header["X-Forwarded-Proto"]; len(told) > 0 {
		r.Out.Header["X-Forwarded-Proto"] = told
	}
}

// late reports whether the deadline has passed: a connection that it ended may say so in words of its own.
func late(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && !time.Now().Before(deadline)
}

// answerError answers a request that was not carried.
func answerError(w http.ResponseWriter, r *http.Request, err error) {
	var large *http.MaxBytesError
	var unreadable *unreadableError
	switch {
	case errors.As(err, &large):
		err = fault.Wrap(err, fault.TooLarge, "the body is over the limit of %d bytes", large.Limit)
	case errors.As(err, &unreadable):
		err = fault.Wrap(err, fault.Invalid, "the body could not be read").WithStatus(http.StatusBadRequest)
	case errors.Is(err, context.DeadlineExceeded) || late(r.Context()):
		err = fault.Wrap(err, fault.Timeout, "the function that answers this takes too long")
	default:
		err = fault.Wrap(err, fault.Unavailable, unreachable)
	}
	problem.Write(w, r, err)
}

// buffers is the pool of the buffers that answers are copied through. Without it each answer allocates 32 KiB.
type buffers struct{}

var bufferPool = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// Get implements httputil.BufferPool.
func (buffers) Get() []byte { return bufferPool.Get().(*[32 << 10]byte)[:] }

// Put implements httputil.BufferPool.
func (buffers) Put(b []byte) { bufferPool.Put((*[32 << 10]byte)(b)) }
