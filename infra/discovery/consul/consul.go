// Package consul is discovery by HashiCorp Consul, for processes on plain machines: each registers itself with the
// agent of its machine, and a gateway watches which instances pass their checks.
//
// What Config does not set is taken from Consul's own environment variables, such as CONSUL_HTTP_TOKEN and
// CONSUL_CACERT.
package consul

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/hashicorp/consul/api"

	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/lifetime"
)

// Config is how a Discovery reaches an agent. Every field is optional.
type Config struct {
	Address    string            // of the agent, as http://127.0.0.1:8500; "": CONSUL_HTTP_ADDR, or else that
	Prefix     string            // of the names of services: with shop- the function users is the service shop-users
	Tag        string            // only instances with this tag are used; "": all
	Datacenter string            // "": that of the agent
	Token      string            // "": CONSUL_HTTP_TOKEN
	Transport  http.RoundTripper // to the agent; nil: one of Consul's client
	Logger     *slog.Logger      // nil: slog.Default
}

// ParseURL returns the Config that a URL stands for:
//
//	consul:                                          the agent of this machine
//	consul://127.0.0.1:8500/shop-?tag=v2&dc=north    another one, with a prefix, a tag and a datacenter
//	consul+https://consul.example:8501               by TLS
//
// The error contains no part of the URL but its form.
func ParseURL(text string) (Config, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "consul" && u.Scheme != "consul+https" || u.Opaque != "" || u.User != nil {
		return Config{}, fmt.Errorf("want consul:, consul://HOST:PORT/PREFIX or consul+https://HOST:PORT/PREFIX")
	}
	cfg := Config{Prefix: strings.TrimPrefix(u.Path, "/")}
	for name, values := range u.Query() {
		switch name {
		case "tag":
			cfg.Tag = values[0]
		case "dc":
			cfg.Datacenter = values[0]
		default:
			return Config{}, fmt.Errorf("has an unknown parameter (use tag, dc)")
		}
	}
	if u.Host != "" {
		cfg.Address = map[string]string{"consul": "http", "consul+https": "https"}[u.Scheme] + "://" + u.Host
	}
	return cfg, nil
}

// Discovery lists the instances that pass their checks. It watches each function from the first request for it on, with
// one goroutine for each, until Close. It is safe for concurrent use.
type Discovery struct {
	cfg    Config
	client *api.Client

	lifetime *lifetime.Lifetime
	watching sync.WaitGroup

	mu      sync.Mutex
	watches map[string]*watch // by the name of the function
}

var _ discovery.Discovery = (*Discovery)(nil)

// New returns a Discovery. It asks the agent nothing yet.
func New(cfg Config) (*Discovery, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	client := &api.Config{Address: cfg.Address, Datacenter: cfg.Datacenter, Token: cfg.Token}
	if cfg.Transport != nil {
		client.HttpClient = &http.Client{Transport: cfg.Transport}
	}
	c, err := api.NewClient(client)
	if err != nil {
		return nil, fmt.Errorf("consul: %w", err)
	}
	return &Discovery{cfg: cfg, client: c, lifetime: lifetime.New(), watches: map[string]*watch{}}, nil
}

// Close ends all watches and waits for them.
func (d *Discovery) Close() {
	d.lifetime.End()
	d.watching.Wait()
}

// Instances implements discovery.Discovery. The first request for a function waits for the agent's answer. A function
// that is not registered has no instances.
func (d *Discovery) Instances(ctx context.Context, name string) ([]discovery.Instance, error) {
	if name == "" || strings.Contains(name, "/") {
		return nil, discovery.Unknown(name)
	}
	w := d.watch(name)
	if found := w.found.Load(); found != nil {
		return *found, nil
	}
	select {
	case <-w.answered:
	case <-ctx.Done():
	case <-d.lifetime.Done():
	}
	if found := w.found.Load(); found != nil {
		return *found, nil
	}
	return nil, fault.New(fault.Unavailable, "Consul has not answered yet")
}

// watch returns the watch of a function, and starts it if there is none.
func (d *Discovery) watch(name string) *watch {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.watches[name]
	if w == nil {
		w = &watch{answered: make(chan struct{})}
		d.watches[name] = w
		if !d.lifetime.Ended() {
			d.watching.Go(func() { d.run(d.lifetime.Context(), name, w) })
		}
	}
	return w
}

// Ready implements discovery.Discovery. It asks the agent whether its cluster has a leader, unless a watch has had an
// answer: then the last instances count, whatever becomes of the agent.
func (d *Discovery) Ready(ctx context.Context) error {
	d.mu.Lock()
	for _, w := range d.watches {
		if w.found.Load() != nil {
			d.mu.Unlock()
			return nil
		}
	}
	d.mu.Unlock()
	leader, err := d.client.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx))
	if err == nil && leader == "" {
		err = fault.New(fault.Unavailable, "Consul has no leader")
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "Consul is not ready")
	}
	return nil
}
