package local

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/auth/apikey"
	"github.com/ebb-dev/ebb/infra/auth/keyfile"
	"github.com/ebb-dev/ebb/infra/auth/oidc"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/nats"
	_ "github.com/ebb-dev/ebb/infra/broker/nats/embedded"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/host"
	"github.com/ebb-dev/ebb/infra/internal/bodydeadline"
	"github.com/ebb-dev/ebb/infra/internal/hostcheck"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/personal"
	"github.com/ebb-dev/ebb/infra/problem"
	"github.com/ebb-dev/ebb/infra/store/sqlite"
	"github.com/ebb-dev/ebb/infra/system"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// Config configures a Host. Dir and System are required.
type Config struct {
	Dir    string // the data directory, of the broker, stores and keys
	System system.System

	Idle time.Duration // idle time after which a function is stopped; 0: a minute
	Tick time.Duration // interval of the ticks for functions that declare OnTick; 0: 500 ms

	Broker broker.Opener // opens the broker; nil: an embedded NATS server in Dir

	LogRetention time.Duration // of the embedded server, see nats.Config.Retention; 0: seven days, negative: for ever

	Lookup  config.Lookup            // looks up the settings of functions; nil: none is set
	Secrets map[string]config.Lookup // settings of one function each, by its name; they take precedence over Lookup

	// Settings tells the settings of a function with their origins; nil: those that it declares, by Lookup.
	Settings func(function string) config.Report

	Issuer   string // the function that signs tokens and gets the private keys; "": users
	Claims   Claims // of tokens
	KeysName string // the variable of the private keys, see keyfile.Open; "": EBB_SIGNING_KEYS

	Loopback bool     // the handler is served on loopback: requests for other host names are refused
	Hosts    []string // further allowed host names, * for any; not empty: others are refused also off loopback
	Origins  []string // other sites whose pages may send requests that change something; * for any

	// Logs returns log lines, see function.Env; nil: none are kept.
	Logs func(ctx context.Context, correlations ...string) ([]telemetry.LogLine, error)

	Telemetry *telemetry.Telemetry // nil: none
	Now       func() time.Time     // the time of functions, and of the expiry of tokens; nil: time.Now
}

// Claims holds the iss and the aud claim of tokens.
type Claims struct{ Issuer, Audience string }

func (c *Config) validate() error {
	var invalid []error
	if c.Dir == "" {
		invalid = append(invalid, errors.New("no data directory"))
	}
	if len(c.System.Functions) == 0 {
		invalid = append(invalid, errors.New("the system has no functions"))
	}
	if c.Idle < 0 || c.Tick < 0 {
		invalid = append(invalid, errors.New("idle and tick must not be negative"))
	}
	if c.Idle == 0 {
		c.Idle = time.Minute
	}
	if c.Tick == 0 {
		c.Tick = 500 * time.Millisecond
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Issuer == "" {
		c.Issuer = "users"
	}
	if c.KeysName == "" {
		c.KeysName = "EBB_SIGNING_KEYS"
	}
	return errors.Join(invalid...)
}

// broker returns the configuration of the embedded broker.
func (c *Config) broker() nats.Config {
	return nats.Config{
		Dir: filepath.Join(c.Dir, "broker"), SyncInterval: syncInterval, Retention: c.LogRetention,
		Observer: observer{c.Telemetry}, Logger: c.Telemetry.Logger("broker"),
	}
}

// openBroker opens the broker of Config, or the embedded one.
func (c *Config) openBroker(ctx context.Context) (broker.Broker, error) {
	if c.Broker != nil {
		return c.Broker(ctx, broker.Options{Observer: observer{c.Telemetry}, Logger: c.Telemetry.Logger("broker")})
	}
	b, err := nats.Open(ctx, c.broker())
	if err != nil {
		return nil, err
	}
	return b, nil
}

// Host is a running system.
type Host struct {
	cfg       Config
	broker    broker.Broker
	handler   http.Handler
	declared  manifest.System
	functions map[string]*supervisor
	gateway   host.Instance                   // nil: none
	way       map[string][]discovery.Instance // to the gateway; see Instances
	unlock    func() error

	subscriptions []broker.Subscription
	background    sync.WaitGroup
	stop          context.CancelFunc

	closing  sync.Once
	closeErr error
}

var _ discovery.Discovery = (*Host)(nil)

// New opens the broker, subscribes every function's trigger and starts the ticks. It starts no function, but
// undelivered events of an earlier run may start some.
func New(ctx context.Context, cfg Config) (_ *Host, err error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("local host: %w", err)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("local host: the data directory: %w", err)
	}
	h := &Host{cfg: cfg, functions: map[string]*supervisor{}}
	if h.unlock, err = lock(cfg.Dir); err != nil {
		return nil, fmt.Errorf("local host: %w", err)
	}
	defer func() {
		if err != nil {
			_ = h.Close(context.WithoutCancel(ctx)) // the first error is the cause
		}
	}()
	h.broker, err = cfg.openBroker(ctx)
	if err != nil {
		return nil, err
	}
	if err := h.prepare(); err != nil {
		return nil, err
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	h.stop = stop
	if err := h.subscribe(background); err != nil {
		return nil, err
	}
	if h.gateway != nil {
		if err := h.gateway.Start(ctx); err != nil {
			return nil, err
		}
	}
	h.background.Go(func() { h.reap(background) })
	h.background.Go(func() { h.tick(background) })
	return h, nil
}

// syncInterval is how often the broker's log is synced. Until then the outboxes of functions keep their published
// events, so after a power failure functions publish the events of at most this interval again.
const syncInterval = 100 * time.Millisecond

// prepare makes a supervisor for every function, except for the gateway, which is never stopped.
func (h *Host) prepare() error {
	private, err := h.keys()
	if err != nil {
		return err
	}
	verifier, err := keyfile.NewVerifierOf(private, publicSide, auth.VerifierConfig{
		Issuer: h.cfg.Claims.Issuer, Audience: h.cfg.Claims.Audience, Clock: h.cfg.Now,
	})
	if err != nil {
		return err
	}
	authenticator, err := oidc.Beside(verifier, h.cfg.Lookup, h.cfg.Now)
	if err != nil {
		return &config.Error{Violations: []config.Violation{{Variable: oidc.IssuerVariable, Problem: err.Error()}}}
	}
	if h.declared, err = h.cfg.System.Declare(); err != nil {
		return err
	}
	wrapping, err := loadPersonalKeys(h.cfg.Dir)
	if err != nil {
		return err
	}
	own := config.Map(map[string]string{personal.Variable: wrapping})
	signing := config.Map(map[string]string{h.cfg.KeysName: private})
	gateway := ""
	for i, d := range h.cfg.System.Functions {
		env := h.env(d.Name, apikey.Beside(authenticator))
		env.Lookup = config.Overlay(env.Lookup, own) // what is set counts
		given := config.Overlay(h.cfg.Secrets[d.Name], own)
		if d.Name == h.cfg.Issuer {
			env.Lookup = config.Overlay(signing, env.Lookup)
			given = config.Overlay(signing, given)
		}
		if h.cfg.Settings != nil {
			env.Settings = func() config.Report { return h.cfg.Settings(d.Name).Given(given) }
		}
		if h.declared.Functions[i].Gateway {
			gateway = d.Name
		}
		s := &supervisor{name: d.Name, telemetry: h.cfg.Telemetry, logger: env.Logger}
		s.make = func() (host.Instance, error) {
			f, err := d.New(env)
			if err != nil {
				return nil, err
			}
			return f.Instance(), nil
		}
		s.instances = []discovery.Instance{{ID: "local", Handler: s}}
		h.functions[d.Name] = s
	}
	var errs []error
	for _, name := range h.cfg.System.Names() {
		s := h.functions[name]
		s.first, err = s.make() // now, so that the error names all invalid settings
		errs = append(errs, err)
	}
	h.handler = http.HandlerFunc(noGateway)
	if s := h.functions[gateway]; s != nil {
		h.gateway, h.handler = s.first, s.first
		h.way = map[string][]discovery.Instance{gateway: {{ID: "local", Handler: s.first}}}
		delete(h.functions, gateway)
	}
	return config.Join(errs...)
}

// noGateway handles requests to a system without a gateway.
func noGateway(w http.ResponseWriter, r *http.Request) {
	problem.Write(w, r, fault.New(fault.NotFound, "the system has no gateway function"))
}

// keys returns the setting of the signing keys: that of the environment, or otherwise the file of the data directory,
// which rotations change while the host runs.
func (h *Host) keys() (setting string, err error) {
	if h.cfg.Lookup != nil {
		if named, ok := h.cfg.Lookup(h.cfg.KeysName); ok && named != "" {
			if _, err := keyfile.Open(named, auth.ParseKeyRing, h.cfg.Now); err != nil {
				return "", &config.Error{Violations: []config.Violation{
					{Variable: h.cfg.KeysName, Problem: "is not accepted: " + err.Error()},
				}}
			}
			return named, nil
		}
	}
	_, err = loadKeys(h.cfg.Dir)
	return keyfile.Scheme + filepath.Join(h.cfg.Dir, keysFile), err
}

// publicSide returns the public keys of a private JWK Set.
func publicSide(private []byte) (auth.JWKS, error) {
	ring, err := auth.ParseKeyRing(private)
	if err != nil {
		return auth.JWKS{}, err
	}
	return ring.Public(), nil
}

// hidden returns a lookup without the variable, for functions that must not see the private keys.
func hidden(lookup config.Lookup, name string) config.Lookup {
	return func(key string) (string, bool) {
		if lookup == nil || key == name {
			return "", false
		}
		return lookup(key)
	}
}

func (h *Host) env(name string, authenticator auth.Authenticator) function.Env {
	return function.Env{
		Store:         sqlite.Opener(filepath.Join(h.cfg.Dir, "store")),
		Publisher:     h.broker,
		Lookup:        config.Overlay(h.cfg.Secrets[name], hidden(h.cfg.Lookup, h.cfg.KeysName)),
		Authenticator: authenticator,
		System:        func() manifest.System { return h.declared }, Discovery: h,
		Telemetry: h.cfg.Telemetry,
		Logger:    h.cfg.Telemetry.Logger(name),
		Now:       h.cfg.Now,
		Logs:      h.cfg.Logs,
	}
}

// subscribe creates the trigger of every function that consumes events. All triggers exist before the first event is
// delivered, because a function would miss events that are emitted before its trigger exists.
func (h *Host) subscribe(ctx context.Context) error {
	var deadLetters broker.Handler
	for _, d := range h.declared.Functions {
		if d.DeadLetters {
			deadLetters = h.functions[d.Name].receive
		}
	}
	open := make(chan struct{})
	defer close(open)
	for _, d := range h.declared.Functions {
		if len(d.Consumes) == 0 {
			continue
		}
		t, err := d.Tuned(h.cfg.Lookup)
		if err != nil {
			return err
		}
		receive := func(ctx context.Context, batch []ce.Event) []broker.Result {
			return h.gateway.Receive(ctx, batch)
		}
		if s := h.functions[d.Name]; s != nil {
			receive = s.receive
		}
		t.Delivery.DeadLetter = deadLetters
		sub, err := h.broker.Subscribe(ctx, t, func(ctx context.Context, batch []ce.Event) []broker.Result {
			<-open
			return receive(ctx, batch)
		})
		if err != nil {
			return err
		}
		h.subscriptions = append(h.subscriptions, sub)
	}
	return nil
}

// reap stops idle functions.
func (h *Host) reap(ctx context.Context) {
	freer := memoryFreer{free: debug.FreeOSMemory}
	every(ctx, max(h.cfg.Idle/4, 5*time.Millisecond), func() {
		stopped := false
		for _, s := range h.functions {
			stopped = s.reap(ctx, h.cfg.Idle) || stopped
		}
		freer.check(time.Now(), stopped)
	})
}

// tick calls the functions with a tick handler at each tick.
func (h *Host) tick(ctx context.Context) {
	var ticking []*supervisor
	for _, d := range h.declared.Functions {
		if d.Ticks {
			ticking = append(ticking, h.functions[d.Name])
		}
	}
	if len(ticking) == 0 {
		return
	}
	every(ctx, h.cfg.Tick, func() {
		for _, s := range ticking {
			if err := s.tick(ctx, h.cfg.Now()); err != nil && ctx.Err() == nil {
				s.logger.Warn("the tick failed; the next one does its work", "error", err)
			}
		}
	})
}

// every calls do at each interval d until ctx ends.
func every(ctx context.Context, d time.Duration, do func()) {
	ticker := time.NewTicker(d)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			do()
		}
	}
}

// Handler returns the system's HTTP handler: the gateway. It refuses requests for host names that Config does not
// allow, and requests that change something from pages of other sites.
func (h *Host) Handler() http.Handler {
	return hostcheck.Handler(bodydeadline.Handler(h.handler, bodydeadline.Limit), hostcheck.Config{
		Loopback: h.cfg.Loopback, Hosts: h.cfg.Hosts, Origins: h.cfg.Origins, Refuse: problem.Write,
	})
}

// Instances implements discovery.Discovery. Every function has one instance, in this process; a request starts the
// function if it does not run. The gateway is there for functions that are its clients, such as the console.
func (h *Host) Instances(_ context.Context, name string) ([]discovery.Instance, error) {
	s := h.functions[name]
	if s == nil {
		if way := h.way[name]; way != nil {
			return way, nil
		}
		return nil, discovery.Unknown(name)
	}
	return s.instances, nil
}

// Ready implements discovery.Discovery. It always returns nil: a request starts its function.
func (h *Host) Ready(context.Context) error { return nil }

// Running reports whether the function has a running instance.
func (h *Host) Running(name string) bool {
	s := h.functions[name]
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running != nil
}

// Starts returns how often the function was started.
func (h *Host) Starts(name string) int64 {
	if s := h.functions[name]; s != nil {
		return s.starts.Load()
	}
	return 0
}

// Close stops the delivery of events, waits for running calls until ctx ends, stops the functions and closes the
// broker. The caller must stop serving HTTP before. Undelivered events are delivered after the next start. Closing
// twice is allowed.
func (h *Host) Close(ctx context.Context) error {
	h.closing.Do(func() { h.closeErr = h.close(ctx) })
	return h.closeErr
}

func (h *Host) close(ctx context.Context) error {
	var stopping sync.WaitGroup
	for _, s := range h.subscriptions {
		stopping.Go(func() { _ = s.Close() })
	}
	wait(ctx, &stopping)
	if h.stop != nil {
		h.stop()
	}
	var closing sync.WaitGroup
	for _, s := range h.functions {
		closing.Go(func() { s.close(ctx) })
	}
	closing.Wait()
	h.background.Wait()
	var err error
	if h.gateway != nil {
		err = h.gateway.Stop(ctx)
	}
	if h.broker != nil {
		err = errors.Join(err, h.broker.Close(ctx))
	}
	if h.unlock != nil {
		err = errors.Join(err, h.unlock())
	}
	return err
}

// wait waits for the group, at most until ctx ends.
func wait(ctx context.Context, g *sync.WaitGroup) {
	done := make(chan struct{})
	go func() {
		g.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// ServeHTTP calls the function, which is started when it does not run.
func (s *supervisor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i, err := s.acquire(r.Context())
	if err != nil {
		problem.Write(w, r, err)
		return
	}
	defer s.release()
	i.ServeHTTP(w, r)
}

// observer counts the broker's work, except for what the functions count themselves.
type observer struct{ *telemetry.Telemetry }

func (observer) Published(int)                        {}
func (observer) Delivered(string, int, time.Duration) {}

var _ broker.Observer = observer{}
