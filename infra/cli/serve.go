package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/discovery/consul"
	"github.com/ebb-dev/ebb/infra/host/run"
)

// discoveryVariable is where instances are registered and found on plain machines.
const discoveryVariable = "EBB_DISCOVERY"

// serveFlags are the flags of serve.
type serveFlags struct {
	addr, advertise, discovery, zone, data, config string
	tls                                            bool
}

func (a *app) serveCommand() *cobra.Command {
	s := serveFlags{
		addr: fallback(a.Lookup, "EBB_ADDR", defaultAddr), advertise: fallback(a.Lookup, "EBB_ADVERTISE", ""),
		discovery: fallback(a.Lookup, discoveryVariable, ""), zone: fallback(a.Lookup, "EBB_ZONE", ""),
		data: fallback(a.Lookup, "EBB_DATA", a.dataDir()), tls: fallback(a.Lookup, tlsVariable, "") == "true",
	}
	c := &cobra.Command{
		Use:   "serve FUNCTION",
		Short: "Host one function as a plain server on this machine",
		Long: `Host one function as a plain server on this machine, with the settings of the image: EBB_STORE, EBB_BROKER or
K_SINK, EBB_VERIFICATION_KEYS and those of the function. With EBB_BROKER its events come from that broker.

With --discovery the instance registers itself with Consul and reports to its check whether it is ready. After SIGTERM
it first removes itself, then serves what still comes, and ends. A gateway finds the instances of all functions so.

With --tls, or with certificates in EBB_TLS_CERT, EBB_TLS_KEY and EBB_TLS_CA, functions answer the gateway only, and
both know each other by their certificates; see docs/mtls.md.`,
		Example: a.example(`
$ serve users --addr 10.0.0.7:8080 --discovery consul:
$ serve gateway --addr :8080 --advertise edge.example --discovery consul://127.0.0.1:8500/shop-
$ serve users --addr 127.0.0.1:0                      at a free port, registered nowhere`),
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageErrorf("serve wants the name of one function")
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&s.addr, "addr", s.addr, "where to listen: `HOST:PORT` (EBB_ADDR)")
	f.StringVar(&s.advertise, "advertise", s.advertise,
		"the `host` that gateways reach it by (EBB_ADVERTISE, that of --addr)")
	f.StringVar(&s.discovery, "discovery", s.discovery,
		"where to register and to look for instances: consul:, consul://HOST:PORT/PREFIX?tag=TAG (EBB_DISCOVERY)")
	f.BoolVar(&s.tls, "tls", s.tls, tlsUsage)
	f.StringVar(&s.data, "data", s.data, "the data `directory` with the development authority (EBB_DATA)")
	f.StringVar(&s.zone, "zone", s.zone, "where the machine is; gateways prefer instances of their zone (EBB_ZONE)")
	defineConfig(c, &s.config)
	c.RunE = func(c *cobra.Command, args []string) error {
		if done, err := a.delegate(c.Context(), mayBeForeign); done || err != nil {
			return err
		}
		return a.serve(c.Context(), args[0], s)
	}
	return c
}

// serve hosts a function until ctx ends.
func (a *app) serve(ctx context.Context, function string, s serveFlags) error {
	if err := checkAddr(s.addr); err != nil {
		return usageErrorf("invalid --addr %q: %w", s.addr, err)
	}
	listener, err := listen(s.addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	m := run.Machine{Listener: listener}
	scheme := "http"
	if fallback(a.Lookup, "EBB_TLS_CERT", "") != "" {
		scheme = "https"
	}
	if s.tls {
		host, _, _ := net.SplitHostPort(listener.Addr().String()) // it is an address
		if m.Identity, err = identityOf(s.data, function, []string{host, s.advertise}); err != nil {
			return err
		}
		scheme = "https"
	}
	if s.discovery != "" {
		d, err := openConsul(s.discovery)
		if err != nil {
			return err
		}
		defer d.Close()
		at, err := s.registration(function, listener.Addr())
		if err != nil {
			return err
		}
		m.Discovery = d
		m.Register = func(ready func(context.Context) error) (func(context.Context) error, error) {
			at.Check, at.Scheme = ready, scheme
			r, err := d.Register(ctx, at)
			if err != nil {
				return nil, err
			}
			return r.Deregister, nil
		}
	}
	fmt.Fprintf(a.Err, "%s listens on %s://%s\n", function, scheme, listener.Addr())
	given := map[string]string{"FUNCTION": function}
	if s.zone != "" {
		given["EBB_ZONE"] = s.zone
	}
	return run.ServeOn(ctx, a.system, config.Overlay(config.Map(given), withConfig(a.Lookup, s.config)), a.Err, m)
}

// openConsul returns the discovery of a URL. An error is a *config.Error.
func openConsul(url string) (*consul.Discovery, error) {
	cfg, err := consul.ParseURL(url)
	if err == nil {
		cfg.Logger = slog.Default()
		var d *consul.Discovery
		if d, err = consul.New(cfg); err == nil {
			return d, nil
		}
	}
	return nil, &config.Error{Violations: []config.Violation{{Variable: discoveryVariable, Problem: err.Error()}}}
}

// registration returns what is registered of an instance that listens at the address.
func (s serveFlags) registration(function string, at net.Addr) (consul.Registration, error) {
	host, port, err := net.SplitHostPort(at.String())
	if err != nil {
		return consul.Registration{}, err
	}
	if s.advertise != "" {
		host = s.advertise
	} else if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		return consul.Registration{}, usageErrorf("serve needs --advertise HOST, because %s is every address of this machine",
			s.addr)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return consul.Registration{}, errors.New("the listener has no port")
	}
	return consul.Registration{Name: function, Address: host, Port: n, Zone: s.zone}, nil
}
