package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/function"
)

// Name is the gateway's own.
const Name = "gateway"

// Config is what the gateway is derived from, besides its Env.
type Config struct {
	Functions []*function.Function // instances that only tell what they are
	Directory discovery.Discovery  // finds those that answer

	// Parts are what GET /api/me is composed of; nil: DefaultParts. A part whose path no
	// function serves is left out.
	Parts []Part
}

// settings are what a team may want to change without building.
type settings struct {
	Origins []string `envconfig:"EBB_CORS_ORIGINS" desc:"origins whose scripts may call from a browser, with commas between; * for any"`
}

// New declares the gateway function.
func New(env function.Env, cfg Config) (*function.Function, error) {
	f := function.New(Name, env)
	g, err := newGateway(f, cfg)
	if err != nil {
		return nil, err
	}
	function.Front(f, g)
	return f, nil
}

// newGateway derives a gateway. All that is wrong with its configuration is told at once.
func newGateway(f *function.Function, cfg Config) (*Gateway, error) {
	set, err := function.Configure[settings](f)
	if err != nil {
		return nil, err
	}
	env := f.Env()
	g := &Gateway{tokens: env.Tokens, telemetry: env.Telemetry, logger: env.Logger, origins: map[string]bool{}}
	for _, o := range set.Origins {
		g.origins[strings.TrimSuffix(strings.TrimSpace(o), "/")] = true
	}
	var all []function.Manifest
	for _, f := range cfg.Functions {
		all = append(all, f.Manifest())
	}
	g.waker, _ = cfg.Directory.(discovery.Waker)
	var faults []error
	for _, m := range all {
		var wakes []string
		if g.waker != nil {
			wakes = partners(m, all)
		}
		faults = append(faults, g.addRoutes(m, wakes, cfg.Directory))
	}
	faults = append(faults, g.addMe(cfg.Parts), g.addDocuments(cfg))
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return g, nil
}

// partners are the functions that one says something to and hears something from, as a saga does with those who do its
// steps. The sweep, which everyone hears, is no conversation.
func partners(m function.Manifest, all []function.Manifest) (names []string) {
	swept := events.ClockSwept.Name()
	for _, other := range all {
		told := slices.ContainsFunc(other.Hears, func(t string) bool { return t != swept && slices.Contains(m.Says, t) })
		tells := slices.ContainsFunc(other.Says, func(t string) bool { return t != swept && slices.Contains(m.Hears, t) })
		if told && tells && other.Name != m.Name {
			names = append(names, other.Name)
		}
	}
	return names
}

func (g *Gateway) addRoutes(m function.Manifest, wakes []string, directory discovery.Discovery) error {
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

func accessOf(r function.Route) access {
	return access{public: r.Access == "public", roles: r.Roles}
}

// serveOwn adds an operation of the gateway's own.
func (g *Gateway) serveOwn(method, path string, a access, h http.HandlerFunc) error {
	return g.tree.add(method, path, &route{pattern: path, span: "gateway " + method + " " + path, handler: h, access: a, maxBody: maxBody})
}
