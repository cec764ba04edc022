// Package knative hosts one function as Knative Serving and Eventing expect it.
//
// The function's operations are served as they are declared. Beside them:
//
//   - POST /events takes CloudEvents in the binary, structured and batched mode: deliveries of the function's
//     trigger, dead letters of all triggers if it keeps those, the PingSource's tick if it hears one. The answer is
//     what Knative's data-plane specification makes of a failure's kind; a success is an empty 200, or an event.
//   - GET /health/liveness and /health/readiness. Ready means that the store is open and that the declaration is the one
//     that the platform was set up with; a function that cannot work is not ready, and says why in its log.
//   - GET /metrics.
//
// Deliveries that wait at the same time share a unit of work, as they do everywhere else (one commit for all of
// them); see host.Instance.
//
// What a kill leaves is what the kit says. Before the process ends by SIGTERM it fails its readiness, waits until no
// request has come for a while, lets those that run end, and closes the store.
package knative

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ebb-dev/ebb/infra/host"
	"github.com/ebb-dev/ebb/infra/manifest"

	"github.com/ebb-dev/ebb/infra/problem"

	"knative.dev/pkg/network/handlers"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/httpserver"
	"github.com/ebb-dev/ebb/infra/internal/bodydeadline"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// The paths beside the function's own.
const (
	EventsPath    = "/events"
	LivenessPath  = "/health/liveness"
	ReadinessPath = "/health/readiness"
	MetricsPath   = "/metrics"
)

// Config says how a function is hosted. All of it may be left out.
type Config struct {
	Senders   *Senders // checks who delivers events; nil: the network's policies are all that does
	Manifest  string   // the hash of the declaration that the platform was set up with; "": it is not compared
	MaxBody   int      // the most bytes of one request to /events; 0: 10 MiB
	Quiet     time.Duration
	Telemetry *telemetry.Telemetry // nil: none
	Logger    *slog.Logger         // nil: slog.Default
	Now       func() time.Time     // the time of ticks; nil: time.Now
}

// Limits of the server and of what comes before and after its work.
const (
	maxBody   = 10 << 20
	quiet     = time.Second
	startTime = 30 * time.Second // one attempt to open the store
	again     = time.Second      // between attempts
)

// Host serves one function. Its methods may be called concurrently, but for Start and Stop, which come once.
type Host struct {
	f       host.Instance
	m       manifest.Function
	cfg     Config
	own     *http.ServeMux
	inlet   *inlet
	drainer *handlers.Drainer

	stopping context.Context
	stop     context.CancelFunc
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
	h := &Host{f: f, m: declared.Function, cfg: cfg, inlet: newInlet(f, declared.Subscription), own: http.NewServeMux()}
	h.stopping, h.stop = context.WithCancel(context.Background())
	h.because("it is starting")
	if m := h.m; m.Trigger != nil || m.Ticks || m.DeadLetters {
		h.own.HandleFunc(EventsPath, h.events)
	}
	h.own.HandleFunc("GET "+LivenessPath, h.alive)
	h.own.HandleFunc("GET "+ReadinessPath, h.readiness)
	h.own.Handle("GET "+MetricsPath, cfg.Telemetry.MetricsHandler())
	h.own.Handle("/", f)
	h.drainer = &handlers.Drainer{Inner: h.own, HealthCheck: h.probe, QuietPeriod: cfg.Quiet}
	return h
}

// ServeHTTP serves everything, probes included.
func (h *Host) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.drainer.ServeHTTP(w, r) }

// Start begins to open what the function needs, and returns. An opening that fails is tried again until Stop: a store
// that is down when the function starts is one that may come up.
func (h *Host) Start() {
	began := time.Now()
	if why := h.mismatch(); why != "" {
		h.because(why)
		h.cfg.Logger.Error("the function is not ready and will not be", "reason", why)
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
			if h.stopping.Err() != nil {
				return
			}
			h.because(err.Error())
			h.cfg.Logger.Error("the function is not ready yet", "error", err)
			select {
			case <-h.stopping.Done():
				return
			case <-time.After(again):
			}
		}
	})
}

func (h *Host) open() error {
	ctx, cancel := context.WithTimeout(h.stopping, startTime)
	defer cancel()
	return h.f.Start(ctx)
}

// mismatch says how the declaration differs from what the platform was set up with; empty when it does not.
func (h *Host) mismatch() string {
	if h.cfg.Manifest == "" {
		return ""
	}
	own := h.m.Hash()
	if own == h.cfg.Manifest {
		return ""
	}
	return "the image declares " + h.m.Name + " otherwise than the manifest that it was deployed with (" + own + ", not " + h.cfg.Manifest + "); deploy both from one version"
}

// Stop closes what Start has opened. The function's requests have ended before.
func (h *Host) Stop(ctx context.Context) error {
	h.ready.Store(false)
	h.because("it is stopping")
	h.stop()
	h.starting.Wait()
	return h.f.Stop(ctx)
}

// Ready says whether requests may come, and if not, why.
func (h *Host) Ready() error {
	if h.ready.Load() {
		return nil
	}
	return fault.New(fault.Unavailable, "%s is not ready: %s", h.m.Name, *h.reason.Load())
}

func (h *Host) because(why string) { h.reason.Store(&why) }

// Serve serves the listener until ctx ends, and drains.
func (h *Host) Serve(ctx context.Context, l net.Listener) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true) // h2c, for a port of that name
	server := httpserver.New(bodydeadline.Handler(h, bodydeadline.Limit))
	server.Protocols, server.MaxHeaderBytes = &protocols, 64<<10
	server.ErrorLog = slog.NewLogLogger(h.cfg.Logger.Handler(), slog.LevelDebug)
	served := make(chan error, 1)
	go func() { served <- server.Serve(httpserver.Listener(l)) }()
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
	drainTime = 60 * time.Second // what requests that run may take
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
