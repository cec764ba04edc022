package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/generate"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/proxy"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// Config is what a gateway serves and how. System and Discovery are required.
type Config struct {
	System    manifest.System     // the functions; a gateway among them is left out
	Discovery discovery.Discovery // finds their instances
	Transport http.RoundTripper   // to instances of other processes; nil: proxy.NewTransport

	Authenticator auth.Authenticator   // checks credentials; nil refuses all of them
	Telemetry     *telemetry.Telemetry // nil: none
	Logger        *slog.Logger         // nil: slog.Default

	Documents    generate.Product // how /openapi.json and /asyncapi.json name the product
	Compositions []Composition    // answers that are put together from those of several functions
	Origins      []string         // of other sites whose scripts may read answers; * for any

	// Policies are those of the product. A request meets them in this order when its caller is known and may call the
	// operation, before its function is called.
	Policies []Middleware
}

// Gateway is an http.Handler that routes requests to functions. It is safe for concurrent use.
type Gateway struct {
	cfg       Config
	tree      node
	root      pathItem            // of the path /
	origins   map[string]bool     // "*": any
	prewarmer discovery.Prewarmer // nil: functions start in no time
	handle    Handler
}

var _ http.Handler = (*Gateway)(nil)

// New returns the gateway of a system. The error names everything that is wrong: a path that cannot be routed or that
// two functions serve, a function that discovery does not know.
func New(cfg Config) (*Gateway, error) {
	if cfg.Transport == nil {
		cfg.Transport = proxy.NewTransport()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	g := &Gateway{cfg: cfg, origins: map[string]bool{}}
	for _, o := range cfg.Origins {
		g.origins[strings.TrimSuffix(strings.TrimSpace(o), "/")] = true
	}
	g.prewarmer, _ = cfg.Discovery.(discovery.Prewarmer)
	var errs []error
	for _, d := range cfg.System.Functions {
		errs = append(errs, g.addFunction(d.Function))
	}
	for _, c := range cfg.Compositions {
		errs = append(errs, g.addComposition(c))
	}
	errs = append(errs, g.addExport())
	if err := errors.Join(append(errs, g.addDocuments())...); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	g.handle = chain(dispatch, g.chain()...)
	return g, nil
}

// chain returns the policies in the order in which a request meets them. The ones before answerUnmatched see every
// request, the ones after it only those that a declared operation answers.
func (g *Gateway) chain() []Middleware {
	before := []Middleware{
		identify,
		secureHeaders,
		g.measure,
		g.recoverPanics,
		checkSyntax,
		g.match,
		g.cors,
		answerUnmatched,
		g.authorize,
		limitBody,
		g.trace,
	}
	return append(append(before, g.cfg.Policies...), g.prewarm)
}

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &Exchange{Request: r, response: response{ResponseWriter: w}}
	x.Writer = &x.response
	g.handle(x)
}
