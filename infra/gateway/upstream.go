package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/internal/strictyaml"
	"github.com/ebb-dev/ebb/infra/proxy"
)

// address is the URL of an instance of an upstream, which has no path.
type address struct{ url.URL }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *address) UnmarshalText(text []byte) error {
	u, err := url.Parse(string(text))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("want http://HOST:PORT or https://HOST:PORT")
	}
	u.Path = ""
	a.URL = *u
	return nil
}

// checkUpstreams reports upstreams that have no instance, or the name of a function.
func (g *Gateway) checkUpstreams(env environment, doc *strictyaml.Document) {
	for _, name := range slices.Sorted(maps.Keys(env.Upstreams)) {
		field := "upstreams." + name
		if !isID(name) {
			doc.Report(field, "want letters, digits, hyphens, underscores and dots as the name")
		}
		if len(env.Upstreams[name]) == 0 {
			doc.Report(field, "want at least one http://HOST:PORT")
		}
		for _, d := range g.cfg.System.Functions {
			if d.Name == name {
				doc.Report(field, "want another name: a function is called so")
			}
		}
	}
}

// isTarget reports whether requests can be sent to a function, or to an upstream, of that name.
func (g *Gateway) isTarget(name string, env environment) bool {
	return len(env.Upstreams[name]) > 0 || g.checkName(name) == nil
}

func noFunction(name string) string { return fmt.Sprintf("there is no function called %q", name) }

// wayToTarget returns the handler that has a function or an upstream serve a request. An upstream with the same
// instances as before keeps what is known of their load and their health.
func (g *Gateway) wayToTarget(name string, env environment) Handler {
	all := env.Upstreams[name]
	if len(all) == 0 {
		return g.wayTo(name)
	}
	key := upstreamKey(name, all)
	if h := g.functions[key]; h != nil {
		return h
	}
	g.functions[key] = serveBy(g.newProxy(name, fixedInstances(all), g.cfg.Transport))
	return g.functions[key]
}

// fixedInstances returns the discovery of the instances that the file lists.
func fixedInstances(all []address) (f fixed) {
	for _, a := range all {
		f = append(f, discovery.Instance{ID: a.String(), Address: &a.URL})
	}
	return f
}

// newProxy returns a proxy to the instances of a function or an upstream.
func (g *Gateway) newProxy(function string, d discovery.Discovery, transport http.RoundTripper) *proxy.Proxy {
	cfg := proxy.Config{Discovery: d, Transport: transport}
	if g.cfg.Balance != nil {
		cfg.Balance = g.cfg.Balance(function)
	}
	cfg.Balance.Changed = func(all, healthy int) { g.cfg.Telemetry.Instances(function, all, healthy) }
	return proxy.New(function, cfg)
}

// triesOf returns how the requests of an operation are tried; nil: once, without a limit.
func (g *Gateway) triesOf(r *Route) *proxy.Tries {
	p := r.Policy
	if p.TryTimeout == 0 && p.Retries == 0 && p.Hedge == 0 {
		return nil
	}
	return proxy.NewTries(proxy.TriesConfig{
		Timeout: time.Duration(p.TryTimeout), Retries: p.Retries, Hedge: time.Duration(p.Hedge),
		Observe: func(what string) { g.cfg.Telemetry.TriedAgain(r.Function, r.Path, what) },
	})
}

// fixed is the discovery of an upstream: its instances, whatever the name.
type fixed []discovery.Instance

var _ discovery.Discovery = fixed(nil)

// Instances implements discovery.Discovery.
func (f fixed) Instances(context.Context, string) ([]discovery.Instance, error) { return f, nil }

// Ready implements discovery.Discovery. It always returns nil.
func (f fixed) Ready(context.Context) error { return nil }

// upstreamKey returns the key of the way to an upstream; no function has such a name.
func upstreamKey(name string, all []address) string {
	for _, a := range all {
		name += " " + a.String()
	}
	return name
}

// forget drops the ways to functions and upstreams that the environment does not name any more, and their breakers.
func (g *Gateway) forget(env environment) {
	ways, functions := map[string]bool{}, map[string]bool{}
	keep := func(name string) {
		functions[name] = true
		if all := env.Upstreams[name]; len(all) > 0 {
			name = upstreamKey(name, all)
		}
		ways[name] = true
	}
	keep("") // the gateway itself
	for _, d := range g.cfg.System.Functions {
		keep(d.Name)
	}
	for _, o := range env.Operations {
		for _, s := range o.Split {
			keep(s.Function)
		}
		if o.Mirror != nil {
			keep(o.Mirror.Function)
		}
	}
	for _, s := range env.services {
		keep(s.Upstream)
	}
	maps.DeleteFunc(g.servers, func(name string, _ *proxy.Proxy) bool { return !ways[name] })
	maps.DeleteFunc(g.functions, func(name string, _ Handler) bool { return !ways[name] })
	g.guarding.Lock()
	defer g.guarding.Unlock()
	maps.DeleteFunc(g.guards, func(_ string, made *guard) bool { return !functions[made.function] })
}
