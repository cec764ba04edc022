// Package proxy carries a request to an instance of a function and its answer back.
//
// An instance of the same process is called with the request itself, without a copy; to another the request is sent
// over HTTP. A request is sent to one instance only: see Transport for the one case in which it is sent again, to the
// same one.
package proxy

import (
	"context"
	"errors"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"

	"github.com/ebb-dev/ebb/infra/balance"
	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/problem"
)

// Config is how a Proxy finds and reaches instances. Discovery is required.
type Config struct {
	Discovery discovery.Discovery
	Balancer  balance.Balancer  // chooses among the instances of this function; nil: round robin
	Transport http.RoundTripper // sends requests to instances of other processes; nil: NewTransport
}

// Proxy is an http.Handler that serves the requests of one function by its instances. It is safe for concurrent use.
//
// A request that cannot be carried is answered with a problem document: 503 when there is no instance or the chosen one
// cannot be reached, 504 when the deadline of the request's context passes, 413 when reading the request's body fails
// with a *http.MaxBytesError.
type Proxy struct {
	name     string
	cfg      Config
	prepared atomic.Pointer[prepared]
}

// prepared is the handlers of a list of instances, made when the list was first seen.
type prepared struct {
	instances []discovery.Instance
	handlers  []http.Handler
}

var _ http.Handler = (*Proxy)(nil)

// New returns the proxy of the function of that name.
func New(name string, cfg Config) *Proxy {
	if cfg.Balancer == nil {
		cfg.Balancer = &balance.RoundRobin{}
	}
	if cfg.Transport == nil {
		cfg.Transport = NewTransport()
	}
	return &Proxy{name: name, cfg: cfg}
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	instances, err := p.cfg.Discovery.Instances(r.Context(), p.name)
	switch {
	case err != nil:
		problem.Write(w, r, err)
	case len(instances) == 0:
		problem.Write(w, r, fault.New(fault.Unavailable, unreachable))
	default:
		p.handlers(instances)[p.cfg.Balancer.Choose(r, instances)].ServeHTTP(w, r)
	}
}

const unreachable = "the function that answers this cannot be reached just now"

// handlers returns the handler of each instance. A Discovery returns the same slice until something changes, so they
// are prepared once for each change.
func (p *Proxy) handlers(instances []discovery.Instance) []http.Handler {
	last := p.prepared.Load()
	if last != nil && len(last.instances) == len(instances) && &last.instances[0] == &instances[0] {
		return last.handlers
	}
	next := &prepared{instances: instances, handlers: make([]http.Handler, len(instances))}
	for i, instance := range instances {
		if next.handlers[i] = instance.Handler; instance.Handler == nil {
			next.handlers[i] = p.remote(instance.Address)
		}
	}
	p.prepared.Store(next)
	return next.handlers
}

// remote returns a handler that sends requests to an address.
func (p *Proxy) remote(address *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Transport:  p.cfg.Transport,
		BufferPool: buffers{},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(address)
			// The addresses of earlier proxies are kept: function.ClientAddr knows which of them to trust.
			r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
			r.SetXForwarded()
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			var large *http.MaxBytesError
			switch {
			case errors.As(err, &large):
				err = fault.Wrap(err, fault.TooLarge, "the body is over the limit of %d bytes", large.Limit)
			case errors.Is(err, context.DeadlineExceeded):
				err = fault.Wrap(err, fault.Timeout, "the function that answers this takes too long")
			default:
				err = fault.Wrap(err, fault.Unavailable, unreachable)
			}
			problem.Write(w, r, err)
		},
	}
}

// buffers is the pool of the buffers that answers are copied through. Without it each answer allocates 32 KiB.
type buffers struct{}

var bufferPool = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// Get implements httputil.BufferPool.
func (buffers) Get() []byte { return bufferPool.Get().(*[32 << 10]byte)[:] }

// Put implements httputil.BufferPool.
func (buffers) Put(b []byte) { bufferPool.Put((*[32 << 10]byte)(b)) }
