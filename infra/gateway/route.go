package gateway

import (
	"context"
	"errors"
	"net/http"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/manifest"
)

// Route is one operation. It must not be changed.
type Route struct {
	manifest.Route        // as it was declared; MaxBody has its default
	Function       string // that serves it; "": the gateway itself

	handler  Handler
	span     string   // the name of its span
	prewarm  []string // functions that will have work when this one has done its own
	document bool     // open to every request, whatever its credentials are
}

func newRoute(function string, declared manifest.Route, h Handler) *Route {
	if declared.MaxBody == 0 {
		declared.MaxBody = manifest.DefaultMaxBody
	}
	return &Route{
		Route: declared, Function: function, handler: h, span: "gateway " + declared.Method + " " + declared.Path,
	}
}

// public reports whether callers without credentials may call the operation.
func (r *Route) public() bool { return r.Access == manifest.AccessPublic }

// addFunction adds the routes of a function.
func (g *Gateway) addFunction(m manifest.Function) error {
	if len(m.Routes) == 0 || m.Gateway {
		return nil
	}
	if err := g.checkName(m.Name); err != nil {
		return err
	}
	p := g.upstream(m.Name)
	call := func(x *Exchange) {
		if x.Request.Body != nil && x.Request.Body != http.NoBody {
			x.Own() // a function of this process may replace the body by one that it has read
		}
		p.ServeHTTP(x.Writer, x.Request)
	}
	var prewarm []string
	if g.prewarmer != nil {
		prewarm = partners(m, g.cfg.System)
	}
	var errs []error
	for _, declared := range m.Routes {
		r := newRoute(m.Name, declared, call)
		if !declared.Safe() {
			r.prewarm = prewarm
		}
		errs = append(errs, g.tree.add(r))
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
