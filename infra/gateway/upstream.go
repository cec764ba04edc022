package gateway

import "github.com/ebb-dev/ebb/infra/proxy"

// upstream returns the proxy of a function.
func (g *Gateway) upstream(function string) *proxy.Proxy {
	cfg := proxy.Config{Discovery: g.cfg.Discovery, Transport: g.cfg.Transport}
	if g.cfg.Balance != nil {
		cfg.Balance = g.cfg.Balance(function)
	}
	return proxy.New(function, cfg)
}
