package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/policy"
	"github.com/ebb-dev/ebb/infra/proxy"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// Route is one operation. It must not be changed.
type Route struct {
	manifest.Route        // with the policy of the environment; MaxBody has its default, Policy is not nil
	Function       string // that serves it; "": the gateway itself

	handler     Handler
	tries       *proxy.Tries
	guard       *guard   // nil: no request is refused
	tag         string   // of the stored answers of the operation
	answers     string   // which of them are this route's: see answersOf
	keyed       []string // header fields that answers are stored for, beside those that they vary by
	byHost      bool     // answers are stored for each host
	invalidates []string // the tags of the operations whose answers a success of this one invalidates
	others      []*Route // of Policy.Split
	mirror      *Route   // of Policy.Mirror
	varies      []string // header fields that decide which of the others serves a request
	hosts       []string // that requests are sent to; none: any
	quotas      string   // the RateLimit-Policy field
	span        telemetry.Operation
	prewarm     []string // functions that will have work when this one has done its own
	call        bool     // its requests are calls by gRPC, gRPC-Web or Connect
	streams     bool     // its calls have more than one request or response
	document    bool     // open to every request, whatever its credentials are
}

func newRoute(function string, declared manifest.Route, h Handler) *Route {
	declared.MaxBody = bodyLimit(declared)
	if declared.Policy == nil {
		declared.Policy = &policy.Policy{}
	}
	return &Route{
		Route: declared, Function: function, handler: h, quotas: quotas(declared.Policy.Rate),
		span: telemetry.Operation{
			Function: "gateway", Method: declared.Method, Route: declared.Path, Edge: true,
		},
	}
}

// newRoute returns a route with what its policy needs: the ways to the functions that it names, a budget of tries and a
// guard.
func (g *Gateway) newRoute(function string, declared manifest.Route, h Handler, env environment) *Route {
	r := newRoute(function, declared, h)
	r.tag = tagOf(name(declared))
	r.hosts = env.Operations[name(declared)].Hosts
	r.varies = variesBy(r.Policy.Split, env.Versions)
	r.storeFor(policy.Split{}, env)
	r.tries, r.guard = g.triesOf(r), g.guardOf(r)
	for _, s := range r.Policy.Split {
		r.others = append(r.others, g.otherRoute(r, s, env))
	}
	if m := r.Policy.Mirror; m != nil {
		r.mirror = &Route{Route: r.Route, Function: m.Function, handler: g.wayToTarget(m.Function, env)}
		for _, other := range r.others {
			other.mirror = r.mirror
		}
	}
	return r
}

// public reports whether callers without credentials may call the operation.
func (r *Route) public() bool { return r.Access == manifest.AccessPublic }

// connect makes the way to a function.
func (g *Gateway) connect(m manifest.Function) error {
	if !served(m) {
		return nil
	}
	if err := g.checkName(m.Name); err != nil {
		return err
	}
	var errs []error
	for _, r := range m.Routes {
		if r.Policy != nil {
			if err := r.Policy.Err(); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name(r), err))
			}
		}
	}
	g.wayTo(m.Name)
	return errors.Join(errs...)
}

// wayTo returns the handler that has a function serve a request. It is called by one goroutine at a time.
func (g *Gateway) wayTo(function string) Handler {
	if h := g.functions[function]; h != nil {
		return h
	}
	g.functions[function] = serveBy(g.newProxy(function, g.cfg.Discovery, g.cfg.Transport))
	return g.functions[function]
}

// serveBy returns the handler that has a proxy serve a request.
func serveBy(p *proxy.Proxy) Handler {
	return func(x *Exchange) {
		if x.Request.Body != nil && x.Request.Body != http.NoBody {
			x.Own() // a function of this process may replace the body by one that it has read
		}
		x.sent = p.Serve(x.Writer, x.Request, x.Route.tries)
	}
}

// served reports whether the gateway has operations of the function.
func served(m manifest.Function) bool { return len(m.Routes) > 0 && !m.Gateway }

// addFunction adds the routes of a function, with the policies of the environment.
func (g *Gateway) addFunction(t *table, m manifest.Function, env environment) error {
	if !served(m) {
		return nil
	}
	var prewarm []string
	if g.prewarmer != nil {
		prewarm = partners(m, g.cfg.System)
	}
	var errs []error
	for _, declared := range m.Routes {
		declared = env.apply(declared)
		r := g.newRoute(m.Name, declared, g.wayTo(m.Name), env)
		if !declared.Safe() {
			r.prewarm = prewarm
			for _, other := range r.others { // the next version of the function emits and consumes the same
				other.prewarm = prewarm
			}
		}
		errs = append(errs, t.tree.add(r))
	}
	return errors.Join(errs...)
}

// dispatch is the end of the chain: it has the function, or the gateway itself, serve the request.
func dispatch(x *Exchange) { x.Route.handler(x) }

// checkName returns an error if discovery knows that there is no function of that name. A function that only cannot be
// found at the moment is no error.
func (g *Gateway) checkName(name string) error {
	if _, err := g.cfg.Discovery.Instances(context.Background(), name); fault.Is(err, fault.NotFound) {
		return err
	}
	return nil
}
