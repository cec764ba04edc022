package discovery

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Addresses makes a function's address of its name, with a template such as
// "http://{function}.shop.svc.cluster.local": Knative's cluster-local DNS, where the
// platform itself finds or starts an instance behind that name.
type Addresses struct {
	template  string
	transport http.RoundTripper
	fail      func(http.ResponseWriter, *http.Request, error)

	mu      sync.Mutex
	proxies map[string]http.Handler
	woken   map[string]time.Time // when it was last asked to start
}

var (
	_ Discovery = (*Addresses)(nil)
	_ Waker     = (*Addresses)(nil)
)

const placeholder = "{function}"

// NewAddresses checks the template. A nil transport is one made for many requests to few
// hosts; fail answers a request that could not be delivered.
func NewAddresses(template string, transport http.RoundTripper, fail func(http.ResponseWriter, *http.Request, error)) (*Addresses, error) {
	u, err := url.Parse(strings.ReplaceAll(template, placeholder, "x"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || !strings.Contains(template, placeholder) {
		return nil, fmt.Errorf("%q is no address template: it must be like http://%s.shop.svc.cluster.local", template, placeholder)
	}
	if transport == nil {
		transport = &Transport{Other: &http.Transport{
			DialContext:           dialer.DialContext,
			MaxIdleConnsPerHost:   idleMost,
			IdleConnTimeout:       idleLimit,
			ResponseHeaderTimeout: headerLimit,
			ForceAttemptHTTP2:     true,
		}}
	}
	return &Addresses{template: template, transport: transport, fail: fail, proxies: map[string]http.Handler{}, woken: map[string]time.Time{}}, nil
}

var label = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$`)

// Endpoint implements Discovery. Every name that is a DNS label has an address.
func (a *Addresses) Endpoint(name string) (http.Handler, error) {
	if !label.MatchString(name) {
		return nil, unknown(name)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if h := a.proxies[name]; h != nil {
		return h, nil
	}
	target, err := url.Parse(a.address(name))
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "the address of %q", name)
	}
	h := a.proxy(target)
	a.proxies[name] = h
	return h, nil
}

func (a *Addresses) address(name string) string {
	return strings.ReplaceAll(a.template, placeholder, name)
}

// Ready implements Discovery. Whether an instance runs is the platform's business.
func (a *Addresses) Ready(context.Context) error { return nil }

// An instance that was woken lives for longer than wakeEvery, and has started within wakeLimit.
const (
	wakeEvery = 5 * time.Second
	wakeLimit = 60 * time.Second
)

// Wake implements Waker: it asks each function whether it is ready, which makes the platform start it. One that was asked a
// moment ago is left alone.
func (a *Addresses) Wake(names ...string) {
	for _, name := range names {
		if a.mayWake(name) {
			go a.wake(a.address(name) + "/health/readiness")
		}
	}
}

func (a *Addresses) mayWake(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if !label.MatchString(name) || now.Sub(a.woken[name]) < wakeEvery {
		return false
	}
	a.woken[name] = now
	return true
}

// wake makes one request, whose answer is nobody's business.
func (a *Addresses) wake(url string) {
	ctx, cancel := context.WithTimeout(context.Background(), wakeLimit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return
	}
	if answer, err := a.transport.RoundTrip(r); err == nil {
		_ = answer.Body.Close()
	}
}

// buffers are what answers are copied through. Without them each answer has 32 KiB of its own.
type buffers struct{}

var bufferPool = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// Get implements httputil.BufferPool.
func (buffers) Get() []byte { return bufferPool.Get().(*[32 << 10]byte)[:] }

// Put implements httputil.BufferPool.
func (buffers) Put(b []byte) { bufferPool.Put((*[32 << 10]byte)(b)) }

func (a *Addresses) proxy(target *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Transport:  a.transport,
		BufferPool: buffers{},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			// Who came before is kept: function.ClientAddr knows which of them to believe.
			r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
			r.SetXForwarded()
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if a.fail == nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			var large *http.MaxBytesError
			if errors.As(err, &large) {
				a.fail(w, r, fault.Wrap(err, fault.TooLarge, "the body is over the limit of %d bytes", large.Limit))
				return
			}
			a.fail(w, r, fault.Wrap(err, fault.Unavailable, "the function that answers this cannot be reached just now"))
		},
	}
}
