// Package knative hosts one function on Knative Serving and Eventing.
//
// It serves the function's operations, and:
//
//   - POST /events accepts CloudEvents in the binary, structured and batched mode: the deliveries of the function's
//     trigger, the dead letters of all triggers when the function consumes those, and the PingSource's event when it
//     declares OnTick. A gateway, which strangers reach, accepts them with Config.Senders only. The response follows
//     Knative's data-plane specification: a status by the kind of failure, or for a success an empty 200 or a reply
//     event.
//   - POST /pubsub accepts what push subscriptions of Google Cloud Pub/Sub send, as /events does. An event that the
//     trigger's filters do not let through counts as handled: a subscription cannot apply all of them.
//   - GET /health/liveness and /health/readiness. The function is ready when its store is open and its declaration is
//     the one that it was deployed with; otherwise its log has the reason.
//   - GET /metrics.
//
// The platform delivers: it counts attempts, also those of a delivery that got no answer as the process had died, and
// it does not pause. Its retries, backoff and timeout stand in the Trigger, which Terraform writes from the
// declaration.
//
// Concurrent deliveries share a unit of work, with one commit for all of them; see host.Instance.
//
// A kill leaves what package function documents. On SIGTERM the host fails its readiness probe, waits until no request
// has arrived for a while, waits for running requests, and closes the store.
package knative

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"knative.dev/pkg/network/handlers"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/host"
	"github.com/ebb-dev/ebb/infra/httpserver"
	"github.com/ebb-dev/ebb/infra/internal/bodydeadline"
	"github.com/ebb-dev/ebb/infra/internal/lifetime"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/mtls"
	"github.com/ebb-dev/ebb/infra/problem"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// The paths of the host, beside those of the function's operations.
const (
	EventsPath    = "/events"
	PubSubPath    = "/pubsub"
	LivenessPath  = "/health/liveness"
	ReadinessPath = "/health/readiness"
	MetricsPath   = "/metrics"
)

// Config configures a Host. Every field is optional.
type Config struct {
	Senders   *Senders             // checks the sender of events; nil: only network policies restrict senders
	Manifest  string               // the hash of the declaration that was deployed; "": it is not compared
	MaxBody   int                  // the most bytes of one request to /events or /pubsub; 0: 10 MiB
	Delivery  *broker.Trigger      // how events are delivered; nil: as the function declares
	Source    Source               // brings events besides HTTP; nil: none
	Quiet     time.Duration        // without requests before a drain ends; 0: 1 s
	Telemetry *telemetry.Telemetry // nil: none
	Logger    *slog.Logger         // nil: slog.Default
	Now       func() time.Time     // the time of ticks; nil: time.Now

	// Certificate has Serve speak TLS, with HTTP/1.1 or HTTP/2 as the client chooses; nil: HTTP/1.1 and HTTP/2 without
	// TLS.
	Certificate Certificate

	// Callers are the clients that may call the function's operations, and Deliverers those that may post events, if
	// Certificate is an mtls.Identity, which knows clients by their certificates. The probes need none, and metrics have
	// their token. nil: any client.
	Callers, Deliverers *mtls.Peers

	// Proxies are the networks of the proxies whose connections begin with a header of the PROXY protocol.
	Proxies []netip.Prefix
}

// Certificate is what a host shows by TLS: an httpserver.Certificate or an mtls.Identity.
type Certificate interface {
	Start() // begins to keep the certificate current
	Stop()
	TLS() *tls.Config
}

var (
	_ Certificate = (*httpserver.Certificate)(nil)
	_ Certificate = (*mtls.Identity)(nil)
)

// Source brings events to the function, and ticks, without Knative: from a broker. The host calls Open until it
// succeeds, then starts the function, and then calls Serve until that succeeds; Pause before it stops the function, and
// Close after that.
type Source interface {
	// Open connects. What the function publishes goes the same way, so it is called first.
	Open(ctx context.Context) error

	// Serve begins to hand events to the function and to tell it the time.
	Serve(ctx context.Context, f host.Instance) error

	// Pause ends both, and returns when no call of the function runs.
	Pause(ctx context.Context) error

	// Close disconnects.
	Close(ctx context.Context) error
}

// The defaults and limits of a host.
const (
	maxBody   = 10 << 20
	quiet     = time.Second
	startTime = 30 * time.Second // one attempt to open the store
	retryWait = time.Second      // between attempts
)

// Host serves one function. Its methods may be called concurrently, except for Start and Stop, which are called once
// each.
type Host struct {
	f       host.Instance
	m       manifest.Function
	cfg     Config
	own     *http.ServeMux
	batcher *batcher
	drainer *handlers.Drainer
	filters func() (broker.Matcher, error) // of the trigger

	starts   *lifetime.Lifetime // ends with Stop
	starting sync.WaitGroup

	ready  atomic.Bool
	reason atomic.Pointer[string] // why it is not ready
}

// New returns a host of a function that is not started.
func New(f host.Instance, cfg Config) *Host {
	if cfg.MaxBody == 0 {
		cfg.MaxBody = maxBody
	}
	if cfg.Quiet == 0 {
		cfg.Quiet = quiet
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	declared := f.Declaration()
	if cfg.Delivery == nil {
		cfg.Delivery = &declared.Subscription
	}
	h := &Host{
		f: f, m: declared.Function, cfg: cfg, batcher: newBatcher(f, *cfg.Delivery), own: http.NewServeMux(),
	}
	h.filters = sync.OnceValues(func() (broker.Matcher, error) { return broker.Compile(cfg.Delivery.Filters) })
	h.starts = lifetime.New()
	h.setReason("it is starting")
	// A gateway is open to strangers: it takes events only where their senders are known.
	if m := h.m; (m.Trigger != nil || m.Ticks || m.DeadLetters) && (!m.Gateway || cfg.Senders != nil) {
		h.own.Handle(EventsPath, require(h.events, cfg.Deliverers))
		h.own.Handle(PubSubPath, require(h.pushed, cfg.Deliverers))
	}
	h.own.HandleFunc("GET "+LivenessPath, h.alive)
	h.own.HandleFunc("GET "+ReadinessPath, h.readiness)
	h.own.Handle("GET "+MetricsPath, cfg.Telemetry.MetricsHandler())
	h.own.Handle("/", require(f.ServeHTTP, cfg.Callers))
	h.drainer = &handlers.Drainer{Inner: h.own, HealthCheck: h.probe, QuietPeriod: cfg.Quiet}
	return h
}

// require returns the handler for the peers only; nil: for any client.
func require(next http.HandlerFunc, peers *mtls.Peers) http.Handler {
	if peers == nil {
		return next
	}
	return mtls.Require(next, *peers)
}

// ServeHTTP serves the function, the events and the probes.
func (h *Host) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.drainer.ServeHTTP(w, r) }

// Start starts the function in the background and returns. A failed start is retried until Stop, because its store may
// become available.
func (h *Host) Start() {
	began := time.Now()
	if why := h.mismatch(); why != "" {
		h.setReason(why)
		h.cfg.Logger.Error("the function cannot become ready", "reason", why)
		return
	}
	h.starting.Go(func() {
		for {
			err := h.open()
			if err == nil {
				h.ready.Store(true)
				h.cfg.Telemetry.ColdStart(h.m.Name, time.Since(began))
				h.cfg.Logger.Info("the function is ready", "took", time.Since(began).String())
				return
			}
			if h.starts.Ended() {
				return
			}
			h.setReason(err.Error())
			h.cfg.Logger.Error("the function is not ready yet", "error", err)
			select {
			case <-h.starts.Done():
				return
			case <-time.After(retryWait):
			}
		}
	})
}

func (h *Host) open() error {
	ctx, release := h.starts.BindTimeout(context.Background(), startTime)
	defer release()
	if h.cfg.Source == nil {
		return h.f.Start(ctx)
	}
	if err := h.cfg.Source.Open(ctx); err != nil {
		return err
	}
	if err := h.f.Start(ctx); err != nil {
		return err
	}
	return h.cfg.Source.Serve(ctx, h.f)
}

// mismatch returns how the declaration differs from the deployed one; empty when it does not.
func (h *Host) mismatch() string {
	if h.cfg.Manifest == "" {
		return ""
	}
	own := h.m.Hash()
	if own == h.cfg.Manifest {
		return ""
	}
	return "the image's declaration of " + h.m.Name + " (" + own + ") differs from the manifest that was deployed (" +
		h.cfg.Manifest + "); deploy both from one version"
}

// Stop stops the function. The caller must have ended its requests.
func (h *Host) Stop(ctx context.Context) error {
	h.ready.Store(false)
	h.setReason("it is stopping")
	h.starts.End()
	h.starting.Wait()
	if h.cfg.Source == nil {
		return h.f.Stop(ctx)
	}
	paused := h.cfg.Source.Pause(ctx)
	return errors.Join(paused, h.f.Stop(ctx), h.cfg.Source.Close(ctx))
}

// Ready returns nil when the function accepts requests, and otherwise a fault.Unavailable with the reason.
func (h *Host) Ready() error {
	if h.ready.Load() {
		return nil
	}
	return fault.New(fault.Unavailable, "%s is not ready: %s", h.m.Name, *h.reason.Load())
}

// setReason sets the reason why the function is not ready.
func (h *Host) setReason(why string) { h.reason.Store(&why) }

// Serve starts the function and serves the listener until ctx ends; then it drains and stops the function.
func (h *Host) Serve(ctx context.Context, l net.Listener) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true) // for a port that is named h2c
	server := httpserver.New(bodydeadline.Handler(h, bodydeadline.Limit))
	server.Protocols, server.MaxHeaderBytes = &protocols, 64<<10
	server.ErrorLog = slog.NewLogLogger(h.cfg.Logger.Handler(), slog.LevelDebug)
	serve := server.Serve
	if cert := h.cfg.Certificate; cert != nil {
		protocols.SetHTTP2(true)
		server.TLSConfig = cert.TLS()
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
		cert.Start()
		defer cert.Stop()
	}
	served := make(chan error, 1)
	go func() { served <- serve(httpserver.Listener(l, h.cfg.Proxies...)) }()
	h.Start()
	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
		h.drainer.Drain()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		err = server.Shutdown(drain)
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	return errors.Join(err, h.Stop(end))
}

const (
	drainTime = 60 * time.Second // the longest time for running requests
	stopTime  = 10 * time.Second
)

func (h *Host) probe(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == LivenessPath {
		h.alive(w, r)
		return
	}
	h.readiness(w, r)
}

func (h *Host) alive(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }

func (h *Host) readiness(w http.ResponseWriter, r *http.Request) {
	if err := h.Ready(); err != nil {
		problem.Write(w, r, fault.New(fault.Unavailable, "not ready"))
		return
	}
	w.WriteHeader(http.StatusOK)
}
