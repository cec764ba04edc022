package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/balance"
	"github.com/ebb-dev/ebb/infra/cache/open"
	"github.com/ebb-dev/ebb/infra/discovery/dns"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/gateway"
	"github.com/ebb-dev/ebb/infra/gateway/policyfile"
	"github.com/ebb-dev/ebb/infra/generate"
	"github.com/ebb-dev/ebb/infra/proxy"
	"github.com/ebb-dev/ebb/infra/ratelimit"
)

// Name is the name of the function.
const Name = "gateway"

// Part is one member of the answer of GET /api/me.
type Part = gateway.Part

// Config is the policy of a product's gateway. The zero Config serves every function of the system and composes
// nothing.
type Config struct {
	Documents generate.Product // how /openapi.json and /asyncapi.json name the product

	// Parts are the members of GET /api/me, which is not served if there are none. A part whose path no function serves
	// is left out.
	Parts []Part

	// Events are the types of events by which policies may have stored answers invalidated. The gateway consumes them.
	Events []event.Typed
}

// settings are what a team may want to change without a new build.
type settings struct {
	Origins []string      `envconfig:"EBB_CORS_ORIGINS" desc:"origins whose scripts may call from a browser, with commas between; * for any"`
	HTTPS   time.Duration `envconfig:"EBB_HSTS" desc:"how long browsers are told to use HTTPS only for the gateway's name, such as 8760h; 0: they are not told"`
	Policy  string        `envconfig:"EBB_GATEWAY_POLICY" desc:"file with the policies of this environment, YAML or JSON; read again when it changes and on SIGHUP"`
	Access  string        `envconfig:"EBB_ACCESS_LOG" default:"on" desc:"a line in the log for each request, at the level info: on, off, or for a share of them such as 0.01 and for all that failed"`
	Redis   string        `envconfig:"EBB_GATEWAY_REDIS" secret:"true" desc:"redis://[USER:PASSWORD@]HOST:PORT[/DB] where the gateway's processes count for rate limits together; empty: each by itself"`
	Cache   string        `envconfig:"EBB_CACHE" secret:"true" desc:"where answers are stored whose operation declares it: memory: or memory:?size=MIB in each process, redis://[USER:PASSWORD@]HOST:PORT[/DB][?name=PREFIX] for all processes together; empty: memory:"`
	Address string        `envconfig:"EBB_FUNCTION_URL" default:"http://{function}.default.svc.cluster.local" desc:"where the gateway finds a function, with {function} for its name"`
	Balance string        `envconfig:"EBB_BALANCE" default:"least-connections" desc:"which instance of a function gets a request: round-robin, weighted-round-robin, least-connections, ip-hash or two-choices"`
	Zone    string        `envconfig:"EBB_ZONE" desc:"where the gateway runs; it prefers instances of its zone"`

	HealthPath string        `envconfig:"EBB_HEALTH_PATH" desc:"path of a health check that is made of instances with an address while requests come, such as /health/readiness; none: no checks"`
	SlowStart  time.Duration `envconfig:"EBB_SLOW_START" desc:"time in which an instance that is new or healthy again gets its whole share of the requests"`
}

// Validate reports an unknown balancer, and what is no path or no time.
func (s settings) Validate() error {
	if _, err := balance.ByName(s.Balance); err != nil {
		return fmt.Errorf("EBB_BALANCE: %w", err)
	}
	if s.HealthPath != "" && !strings.HasPrefix(s.HealthPath, "/") {
		return fmt.Errorf("invalid EBB_HEALTH_PATH %q: want a path such as /health/readiness", s.HealthPath)
	}
	if s.SlowStart < 0 || s.HTTPS < 0 {
		return errors.New("EBB_SLOW_START and EBB_HSTS must not be negative")
	}
	_, err := s.accessShare()
	return err
}

// accessShare returns the share of the requests that get a line in the log.
func (s settings) accessShare() (float64, error) {
	switch s.Access {
	case "on", "true":
		return 1, nil
	case "off", "false":
		return 0, nil
	}
	share, err := strconv.ParseFloat(s.Access, 64)
	if err != nil || !(share >= 0 && share <= 1) {
		return 0, fmt.Errorf("invalid EBB_ACCESS_LOG %q: want on, off or a share from 0 to 1", s.Access)
	}
	return share, nil
}

// balance returns how the instances of one function are chosen.
func (s settings) balance(string) balance.Config {
	b, _ := balance.ByName(s.Balance) // Validate has found it
	return balance.Config{
		Balancer: b, Zone: s.Zone, SlowStart: s.SlowStart, Check: balance.Check{Path: s.HealthPath},
	}
}

// New declares the gateway of the system that the environment names. Without a Discovery in the environment each
// function has the address that EBB_FUNCTION_URL gives it.
func (c Config) New(env function.Env) (*function.Function, error) {
	f := function.New(Name, env)
	set, err := function.Configure[settings](f)
	if err != nil {
		return nil, err
	}
	env = f.Env()
	transport := env.Transport
	if transport == nil {
		transport = proxy.NewTransport()
	}
	directory := env.Discovery
	if directory == nil {
		if directory, err = dns.Open(set.Address, transport); err != nil {
			return nil, fmt.Errorf("EBB_FUNCTION_URL: %w", err)
		}
	}
	var limiter ratelimit.Limiter // without a Redis each process counts by itself
	if set.Redis != "" {
		if limiter, err = openLimiter(set.Redis); err != nil {
			return nil, fmt.Errorf("EBB_GATEWAY_REDIS: %w", err)
		}
	}
	answers, err := open.Open(cmp.Or(set.Cache, "memory:"), env.Now)
	if err != nil {
		return nil, fmt.Errorf("EBB_CACHE: %w", err)
	}
	access, _ := set.accessShare() // Validate has parsed it
	g, err := gateway.New(gateway.Config{
		System: env.System(), Discovery: directory, Transport: transport, Authenticator: env.Authenticator,
		Telemetry: env.Telemetry, Logger: env.Logger, Documents: c.Documents, Compositions: c.compositions(),
		Origins: set.Origins, HTTPSOnly: set.HTTPS,
		Limiter: limiter, Cache: answers, Events: c.names(), Now: env.Now, AccessLog: access,
		Balance: set.balance, Settings: env.Settings,
	})
	if err != nil {
		return nil, err
	}
	h := &hosted{Gateway: g, events: c.Events, closers: []io.Closer{answers}}
	if l, ok := limiter.(io.Closer); ok {
		h.closers = append(h.closers, l)
	}
	if set.Policy != "" {
		if h.file, err = policyfile.Open(set.Policy, g.Configure, env.Logger); err != nil {
			return nil, errors.Join(fmt.Errorf("EBB_GATEWAY_POLICY: %w", err), h.close())
		}
	}
	function.Handler(f, h, gateway.OpenAPI(c.compositions()...))
	return f, nil
}

// names returns the names of the types of events.
func (c Config) names() (all []string) {
	for _, t := range c.Events {
		all = append(all, t.Info().Name)
	}
	return all
}

// hosted is a gateway as its function runs it: with the events that it consumes, the file of its policies, which is
// watched while the function runs, and what it has opened.
type hosted struct {
	*gateway.Gateway
	events  []event.Typed
	file    *policyfile.File // nil: none
	closers []io.Closer      // closed by Stop
}

// Consumes is for function.Handler.
func (h *hosted) Consumes() []event.Typed { return h.events }

// Start is for function.Handler.
func (h *hosted) Start(ctx context.Context) error {
	if h.file == nil {
		return nil
	}
	return h.file.Start(ctx)
}

// Stop is for function.Handler. The gateway cannot be started again.
func (h *hosted) Stop(ctx context.Context) error {
	var err error
	if h.file != nil {
		err = h.file.Stop(ctx)
	}
	return errors.Join(err, h.close())
}

// close closes what was opened for the gateway, once.
func (h *hosted) close() error {
	var errs []error
	for _, c := range h.closers {
		errs = append(errs, c.Close())
	}
	h.closers = nil
	return errors.Join(errs...)
}

// compositions returns GET /api/me, if it has parts.
func (c Config) compositions() []gateway.Composition {
	if len(c.Parts) == 0 {
		return nil
	}
	return []gateway.Composition{{
		Path: "/api/me", OperationID: "get-me", Summary: "Everything about the caller", Parts: c.Parts,
	}}
}
