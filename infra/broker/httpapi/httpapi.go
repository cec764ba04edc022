// Package httpapi serves any broker.Broker over HTTP, as a stand-alone CloudEvents broker.
//
// Events are posted to its root in the binary, the structured or the batched mode of the CloudEvents HTTP binding, and
// are answered with 202 when the broker has them. Triggers are resources of the CloudEvents Subscriptions API under
// /subscriptions; their config is Knative's DeliverySpec. Deliveries go to HTTP sinks as Knative's data plane says:
// Prefer: reply, the retry table, Retry-After, replies, dead letters.
//
// Every client that reaches it may post and subscribe, unless Config.Token is set. A running shop therefore has none:
// its broker is inside the process. Sinks are called from this process, so that a client that may subscribe reaches
// what this process can reach.
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
	"github.com/ebb-dev/ebb/infra/internal/hostcheck"
	"github.com/ebb-dev/ebb/infra/internal/slowbody"
)

// Config configures a Handler. The zero Config has the defaults; with it every client may use the broker.
type Config struct {
	Loopback bool         // it is served on loopback: requests for other names than loopback's are refused
	Hosts    []string     // further names that requests may be for; not empty: no others, also elsewhere; * for any
	Token    string       // a bearer token that every request must carry; "": none is asked for
	File     string       // where subscriptions are kept; "": nowhere, they end with the process
	MaxBody  int          // the largest request, and reply, in bytes; 0: 1 MiB. The broker must take events that large
	Client   *http.Client // calls sinks; nil: one of its own, which follows no redirects
	Logger   *slog.Logger // nil: slog.Default
	Parallel int          // how many deliveries of one subscription run at once; 0: 32
}

// Headroom is by how many bytes the limit of a broker should be larger than MaxBody: attributes in header fields do not
// count as part of the body.
const Headroom = 64 << 10

// Handler serves a broker over HTTP. It must be closed.
type Handler struct {
	broker  broker.Broker
	cfg     Config
	handler http.Handler // answer, with a limit on bodies
	mux     http.Handler

	mu   sync.Mutex
	subs map[string]*served
}

var _ http.Handler = (*Handler)(nil)

// New makes a Handler for the broker, and serves the subscriptions that were kept. The broker stays the caller's, who
// closes it after the Handler.
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
	f.mux = mux
	f.handler = hostcheck.Handler(slowbody.Handler(http.HandlerFunc(f.answer), slowbody.Limit), hostcheck.Config{
		Loopback: cfg.Loopback, Hosts: cfg.Hosts, Refuse: problem.Write,
	})
	if err := f.restore(ctx); err != nil {
		return nil, errors.Join(err, f.Close(ctx))
	}
	return f, nil
}

// NewClient is a client for sinks: it follows no redirects, because an event is not for where they point.
func NewClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 32
	t.IdleConnTimeout = 5 * time.Second // less than servers keep one, so that none is closed just when it is used
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ServeHTTP implements http.Handler.
func (f *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { f.handler.ServeHTTP(w, r) }

// answer asks for the token, if there is one, and passes the request on.
func (f *Handler) answer(w http.ResponseWriter, r *http.Request) {
	if !f.allowed(r) {
		problem.Write(w, r, fault.New(fault.Unauthenticated, "a bearer token is asked for"))
		return
	}
	f.mux.ServeHTTP(w, r)
}

// allowed compares hashes, so that the time it takes tells nothing about the token.
func (f *Handler) allowed(r *http.Request) bool {
	if f.cfg.Token == "" {
		return true
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	want, got := sha256.Sum256([]byte(f.cfg.Token)), sha256.Sum256([]byte(strings.TrimSpace(token)))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

// Close stops delivering and waits for deliveries that run, at most until ctx ends; then they are given up, and
// come again. Subscriptions that are kept go on with the next Handler.
func (f *Handler) Close(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var faults []error
	for _, s := range f.subs {
		stop := context.AfterFunc(ctx, s.giveUp)
		faults = append(faults, s.running.Close())
		stop()
		s.giveUp()
	}
	clear(f.subs)
	return errors.Join(faults...)
}

// longest bounds an attempt of a subscription that asks for no timeout.
const longest = time.Minute
