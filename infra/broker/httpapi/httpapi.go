// Package httpapi serves any broker.Broker over HTTP, as a stand-alone CloudEvents broker.
//
// Clients post events to its root in the binary, the structured or the batched mode of the CloudEvents HTTP binding;
// the answer is 202 when the broker has accepted them. Triggers are resources of the CloudEvents Subscriptions API
// under /subscriptions; their config is Knative's DeliverySpec. Deliveries go to HTTP sinks by Knative's data-plane
// specification: Prefer: reply, the retry table, Retry-After, replies, dead letters.
//
// Every client that reaches it may post and subscribe, unless Config.Token is set. The command dev therefore does not
// serve one: its broker is inside the process. This process calls the sinks, so a client that may subscribe can make
// it send requests to every address that it reaches.
package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/problem"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/bodydeadline"
	"github.com/ebb-dev/ebb/infra/internal/hostcheck"
)

// Config configures a Handler. The zero Config has the defaults; with it every client may use the broker.
type Config struct {
	Loopback bool         // it is served on loopback: refuse requests with a host name other than loopback's and Hosts
	Hosts    []string     // more host names to accept, * for any; if not empty, others are refused also off loopback
	Token    string       // the bearer token that every request must carry; "": no token is required
	File     string       // the file that stores the subscriptions; "": they are lost when the process ends
	MaxBody  int          // the largest request, and reply, in bytes; 0: 1 MiB. The broker must accept such events
	Client   *http.Client // calls the sinks; nil: NewClient
	Logger   *slog.Logger // nil: slog.Default
	Parallel int          // the number of deliveries of one subscription that run at once; 0: 32
}

// Headroom is how many bytes larger than MaxBody the limit of the broker should be, because attributes in header fields
// do not count as part of the body.
const Headroom = 64 << 10

// Handler serves a broker over HTTP. The caller must close it.
type Handler struct {
	broker  broker.Broker
	cfg     Config
	handler http.Handler // checks the host, limits the time of bodies, then calls authenticate

	mu   sync.Mutex
	subs map[string]*served
}

var _ http.Handler = (*Handler)(nil)

// New returns a Handler for the broker and serves the stored subscriptions. The caller closes the broker after the
// Handler.
func New(ctx context.Context, b broker.Broker, cfg Config) (*Handler, error) {
	if cfg.MaxBody == 0 {
		cfg.MaxBody = 1 << 20
	}
	if cfg.Parallel == 0 {
		cfg.Parallel = 32
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Client == nil {
		cfg.Client = NewClient()
	}
	f := &Handler{broker: b, cfg: cfg, subs: map[string]*served{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", f.ingress)
	mux.HandleFunc("POST /subscriptions", f.create)
	mux.HandleFunc("GET /subscriptions", f.list)
	mux.HandleFunc("GET /subscriptions/{id}", f.retrieve)
	mux.HandleFunc("DELETE /subscriptions/{id}", f.remove)
	f.handler = hostcheck.Handler(bodydeadline.Handler(f.authenticate(mux), bodydeadline.Limit), hostcheck.Config{
		Loopback: cfg.Loopback, Hosts: cfg.Hosts, Refuse: problem.Write,
	})
	if err := f.restore(ctx); err != nil {
		return nil, errors.Join(err, f.Close(ctx))
	}
	return f, nil
}

// NewClient returns a client for sinks. It follows no redirects, because an event must not reach another address.
func NewClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 32
	t.IdleConnTimeout = 5 * time.Second // less than servers', so that they do not close a connection at the moment of use
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ServeHTTP implements http.Handler.
func (f *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { f.handler.ServeHTTP(w, r) }

// authenticate returns a handler that refuses requests without the token and passes the others to next.
func (f *Handler) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !f.allowed(r) {
			problem.Write(w, r, fault.New(fault.Unauthenticated, "missing or wrong bearer token"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// allowed reports whether the request carries the token. It compares hashes, so that its time reveals nothing about
// the token.
func (f *Handler) allowed(r *http.Request) bool {
	if f.cfg.Token == "" {
		return true
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	want, got := sha256.Sum256([]byte(f.cfg.Token)), sha256.Sum256([]byte(strings.TrimSpace(token)))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

// Close stops deliveries. It waits for running ones until ctx ends; then it cancels them, and the broker delivers their
// events again. The next Handler serves the stored subscriptions.
func (f *Handler) Close(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	for _, s := range f.subs {
		stop := context.AfterFunc(ctx, s.active.End)
		errs = append(errs, s.running.Close())
		stop()
		s.active.End()
	}
	clear(f.subs)
	return errors.Join(errs...)
}

// defaultTimeout limits an attempt of a subscription without a timeout.
const defaultTimeout = time.Minute
