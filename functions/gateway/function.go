package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/ebb-dev/ebb/infra/problem"

	"github.com/ebb-dev/ebb/infra/generate"
	"github.com/ebb-dev/ebb/infra/manifest"

	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
)

// Name is the gateway's own.
const Name = "gateway"

// Config is the policy of a product's gateway. The zero Config serves every function of the system and composes nothing.
type Config struct {
	Documents generate.Product // how /openapi.json and /asyncapi.json name the product

	// Parts are what GET /api/me is composed of; none: it is not served. A part whose path no function serves is left out.
	Parts []Part
}

// settings are what a team may want to change without building.
type settings struct {
	Origins []string `envconfig:"EBB_CORS_ORIGINS" desc:"origins whose scripts may call from a browser, with commas between; * for any"`
	Address string   `envconfig:"EBB_FUNCTION_URL" default:"http://{function}.default.svc.cluster.local" desc:"where the gateway finds a function, with {function} for its name"`
}

// New declares the gateway of the system that the environment names.
func (c Config) New(env function.Env) (*function.Function, error) {
	f := function.New(Name, env)
	set, err := function.Configure[settings](f)
	if err != nil {
		return nil, err
	}
	env = f.Env()
	if env.Discovery == nil { // each function has an address of its own
		if env.Discovery, err = discovery.NewAddresses(set.Address, nil, problem.Write); err != nil {
			return nil, fmt.Errorf("EBB_FUNCTION_URL: %w", err)
		}
	}
	g, err := c.newGateway(env, set)
	if err != nil {
		return nil, err
	}
	function.Handler(f, g, c.openAPI())
	return f, nil
}

// newGateway derives a gateway. The error names everything that is wrong.
func (c Config) newGateway(env function.Env, set settings) (*Gateway, error) {
	g := &Gateway{authenticator: env.Authenticator, telemetry: env.Telemetry, logger: env.Logger, origins: map[string]bool{}}
	for _, o := range set.Origins {
		g.origins[strings.TrimSuffix(strings.TrimSpace(o), "/")] = true
	}
	var all []manifest.Function
	for _, d := range env.System().Functions {
		all = append(all, d.Function)
	}
	g.waker, _ = env.Discovery.(discovery.Waker)
	var faults []error
	for _, m := range all {
		var wakes []string
		if g.waker != nil {
			wakes = partners(m, all)
		}
		faults = append(faults, g.addRoutes(m, wakes, env.Discovery))
	}
	faults = append(faults, g.addMe(c.Parts), g.addDocuments(c, env))
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return g, nil
}

// partners are the functions that one says something to and hears something from, as a saga does with those who do its
// steps. The sweep, which everyone hears, is no conversation.
func partners(m manifest.Function, all []manifest.Function) (names []string) {
	swept := event.ClockSwept.Name()
	for _, other := range all {
		told := slices.ContainsFunc(other.Consumes, func(t string) bool { return t != swept && slices.Contains(m.Emits, t) })
		tells := slices.ContainsFunc(other.Emits, func(t string) bool { return t != swept && slices.Contains(m.Consumes, t) })
		if told && tells && other.Name != m.Name {
			names = append(names, other.Name)
		}
	}
	return names
}

func (g *Gateway) addRoutes(m manifest.Function, wakes []string, directory discovery.Discovery) error {
	if len(m.Routes) == 0 || m.Name == Name {
		return nil
	}
	handler, err := directory.Endpoint(m.Name)
	if err != nil {
		return err
	}
	var faults []error
	for _, r := range m.Routes {
		to := &route{pattern: r.Path, span: "gateway " + r.Method + " " + r.Path, handler: handler, maxBody: maxBody, access: accessOf(r)}
		if r.MaxBody > 0 {
			to.maxBody = r.MaxBody
		}
		if !r.Safe() {
			to.wakes = wakes
		}
		faults = append(faults, g.tree.add(r.Method, r.Path, to))
	}
	return errors.Join(faults...)
}

func accessOf(r manifest.Route) access {
	return access{public: r.Access == "public", roles: r.Roles}
}

// serveOwn adds an operation of the gateway's own.
func (g *Gateway) serveOwn(method, path string, a access, h http.HandlerFunc) error {
	return g.tree.add(method, path, &route{pattern: path, span: "gateway " + method + " " + path, handler: h, access: a, maxBody: maxBody})
}
