package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jub0bs/cors"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/balance"
	"github.com/ebb-dev/ebb/infra/cache"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/generate"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/proxy"
	"github.com/ebb-dev/ebb/infra/ratelimit"
	"github.com/ebb-dev/ebb/infra/ratelimit/memory"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// Config is what a gateway serves and how. System and Discovery are required.
type Config struct {
	System    manifest.System     // the functions; a gateway among them is left out
	Discovery discovery.Discovery // finds their instances
	Transport http.RoundTripper   // to instances of other processes; nil: proxy.NewTransport

	// Balance returns how the instances of a function are chosen, with a Balancer of its own for each; nil: round robin.
	Balance func(function string) balance.Config

	Limiter       ratelimit.Limiter    // counts for the rate limits; nil: each process counts by itself
	Events        []string             // the types of events that Receive gets
	Cache         cache.Store          // of answers; nil: each process has one of its own, of 64 MiB
	Authenticator auth.Authenticator   // checks credentials; nil refuses all of them
	Telemetry     *telemetry.Telemetry // nil: none
	Logger        *slog.Logger         // nil: slog.Default
	AccessLog     float64              // the share of requests with a line, 0 to 1; above 0, all failed ones have one
	Now           func() time.Time     // nil: time.Now

	Settings     func() config.Report // of the gateway itself, for staff; nil: they are not told
	Documents    generate.Product     // how /openapi.json and /asyncapi.json name the product
	Compositions []Composition        // answers that are put together from those of several functions
	HTTPSOnly    time.Duration        // how long browsers are told to use HTTPS only (RFC 6797); 0: they are not told
	Origins      []string             // of other sites whose scripts may read answers; * for any

	// Policies are those of the product. A request meets them in this order when its caller is known and may call the
	// operation, before its function is called.
	Policies []Middleware
}

// Gateway is an http.Handler that routes requests to functions. It is safe for concurrent use.
type Gateway struct {
	cfg   Config
	table atomic.Pointer[table]

	configuring sync.Mutex
	functions   map[string]Handler      // the way to each function
	servers     map[string]*proxy.Proxy // to the gRPC servers of each upstream that has some
	http2       http.RoundTripper       // to gRPC servers
	documents   []*Route                // that the gateway serves itself
	limits      limits
	caches      *caches
	prewarmer   discovery.Prewarmer // nil: functions start in no time
	copies      chan struct{}       // has an element for each copy of a request that is under way
	handle      Handler
	rpc         *calls // nil: no function has an RPC service

	guarding sync.Mutex
	guards   map[string]*guard // by the function and the name of the operation
}

var _ http.Handler = (*Gateway)(nil)

// New returns the gateway of a system. The error names everything that is wrong: a path that cannot be routed or that
// two functions serve, a policy that is not valid, a function that discovery does not know.
func New(cfg Config) (*Gateway, error) {
	if cfg.Transport == nil {
		cfg.Transport = proxy.NewTransport()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	g := &Gateway{
		cfg: cfg, functions: map[string]Handler{}, servers: map[string]*proxy.Proxy{},
		http2: callTransport{proxy.NewHTTP2Transport()}, copies: make(chan struct{}, maxMirrored),
	}
	g.prewarmer, _ = cfg.Discovery.(discovery.Prewarmer)
	g.limits = limits{shared: cfg.Limiter, local: memory.New(cfg.Now), now: cfg.Now}
	g.caches = newCaches(cfg)
	g.documents = g.newDocuments()
	var errs []error
	if len(cfg.Origins) > 0 {
		_, err := cors.NewMiddleware(corsConfig(cfg.Origins, false))
		errs = append(errs, err)
	}
	calls, faults := g.newCalls()
	g.rpc, errs = calls, append(errs, faults...)
	for _, d := range cfg.System.Functions {
		errs = append(errs, g.connect(d.Function))
	}
	first, err := g.read("", nil)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	g.table.Store(first)
	g.handle = chain(dispatch, g.chain()...)
	return g, nil
}

// chain returns the policies in the order in which a request meets them. The ones before answerUnmatched see every
// request, the ones after it only those that a declared operation answers.
func (g *Gateway) chain() []Middleware {
	before := []Middleware{
		identify,
		g.secureHeaders(),
		g.measure,
		g.logAccess,
		g.recoverPanics,
		checkSyntax,
		checkHost,
		forwarded,
		ownTimeout,
		readVersion,
		match,
		g.cors,
		redirects,
		answerUnmatched,
		g.countRunning,
		g.authorize,
		g.limitRate,
		choose,
		limitBody,
		g.trace,
		compress,
		g.cache,
		limitAnswer,
		limitTime,
		shedLoad,
		g.mirror,
	}
	return append(append(before, g.cfg.Policies...), g.prewarm)
}

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.rpc != nil && g.rpc.serve(w, r) {
		return
	}
	g.serveOperation(w, r)
}

// serveOperation serves a request that is no call.
func (g *Gateway) serveOperation(w http.ResponseWriter, r *http.Request) {
	x := &Exchange{Request: r, table: g.table.Load(), response: response{ResponseWriter: w}}
	x.Writer = &x.response
	g.handle(x)
}
