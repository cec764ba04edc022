package gateway

import (
	"time"

	"github.com/ebb-dev/ebb/infra/proxy"
)

// upstream returns the proxy of a function.
func (g *Gateway) upstream(function string) *proxy.Proxy {
	cfg := proxy.Config{Discovery: g.cfg.Discovery, Transport: g.cfg.Transport}
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
