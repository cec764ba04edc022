package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/httpapi"
	"github.com/ebb-dev/ebb/infra/broker/memory"
	"github.com/ebb-dev/ebb/infra/broker/nats"
	_ "github.com/ebb-dev/ebb/infra/broker/nats/embedded"
	"github.com/ebb-dev/ebb/infra/httpserver"
	"github.com/ebb-dev/ebb/infra/mtls"
)

// brokerToken is the variable with the token that the stand-alone broker requires and the conformance suite sends.
const brokerToken = "EBB_BROKER_TOKEN"

// minToken is the minimum length of a token.
const minToken = 16

type brokerConfig struct {
	addr, data, token string
	hosts             string
	callers           string // SPIFFE IDs of clients
	cert, key, ca     string // files
	tls               bool   // by the development authority
	system            string // the data directory of the system, with the development authority
	memory            bool
	limit             int
}

// brokerCommand serves a stand-alone CloudEvents broker.
func (a *app) brokerCommand() *cobra.Command {
	cfg := brokerConfig{
		token: fallback(a.Lookup, brokerToken, ""), callers: fallback(a.Lookup, "EBB_TLS_CALLERS", ""),
		cert: fallback(a.Lookup, "EBB_TLS_CERT", ""), key: fallback(a.Lookup, "EBB_TLS_KEY", ""),
		ca: fallback(a.Lookup, "EBB_TLS_CA", ""), tls: fallback(a.Lookup, tlsVariable, "") == "true",
		system: fallback(a.Lookup, "EBB_DATA", a.dataDir()),
	}
	c := &cobra.Command{
		Use:   "broker",
		Short: "Serve a stand-alone CloudEvents broker on loopback",
		Long: `Serve a stand-alone CloudEvents broker on loopback.

With --tls, or with certificates in EBB_TLS_CERT, EBB_TLS_KEY and EBB_TLS_CA, the clients that EBB_TLS_CALLERS names
may use it, and functions know its deliveries by its certificate; see docs/mtls.md.`,
		Example: a.example(`
		$ broker                              in memory, on http://127.0.0.1:8081
		$ broker --data events --addr 127.0.0.1:9000`),
		Args: noArgs,
	}
	f := c.Flags()
	f.StringVar(&cfg.addr, "addr", "127.0.0.1:8081",
		"where to listen; anything but loopback needs a token in "+brokerToken)
	f.StringVar(&cfg.hosts, "hosts", fallback(a.Lookup, hostsVariable, ""), hostsUsage)
	f.StringVar(&cfg.data, "data", "", "directory for the events and the subscriptions")
	f.BoolVar(&cfg.memory, "memory", false, "keep everything in memory only; the default without --data")
	f.BoolVar(&cfg.tls, "tls", cfg.tls,
		"speak TLS with a certificate of the development authority in the data directory of the system (EBB_DATA)")
	f.IntVar(&cfg.limit, "limit", 1<<20, "the largest request in bytes")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := cfg.validate(); err != nil {
			return err
		}
		listener, err := listen(cfg.addr)
		if err != nil {
			return err
		}
		defer listener.Close()
		return a.serveBroker(c.Context(), cfg, listener)
	}
	return c
}

func (c brokerConfig) validate() error {
	host, _, err := net.SplitHostPort(c.addr)
	ip := net.ParseIP(host)
	switch {
	case err != nil:
		return usageErrorf("invalid --addr %q: want HOST:PORT such as 127.0.0.1:8081", c.addr)
	case c.memory && c.data != "":
		return usageErrorf("--memory and --data exclude each other")
	case c.limit < 64<<10 || c.limit > 3<<20:
		return usageErrorf("--limit must be from 65536 to %d", 3<<20)
	case c.token != "" && len(c.token) < minToken:
		return usageErrorf("the token in %s must have %d characters at least", brokerToken, minToken)
	case c.mutual() && strings.TrimSpace(c.callers) == "":
		return usageErrorf("no client may use a broker with TLS: name the SPIFFE IDs of clients in EBB_TLS_CALLERS")
	case c.ca != "" && (c.cert == "" || c.key == ""):
		return usageErrorf("EBB_TLS_CA needs EBB_TLS_CERT and EBB_TLS_KEY")
	case c.token == "" && !c.mutual() && host != "localhost" && (ip == nil || !ip.IsLoopback()):
		return usageErrorf("every client that reaches %s could post and read events: use 127.0.0.1, or set a token in %s",
			c.addr, brokerToken)
	}
	return nil
}

// mutual reports whether clients are known by their certificates.
func (c brokerConfig) mutual() bool { return c.tls || c.ca != "" }

// identity returns the identity of the broker; nil: it speaks no TLS.
func (c brokerConfig) identity(at net.Addr) (own *mtls.Identity, err error) {
	switch {
	case c.ca != "":
		own, err = mtls.Open(mtls.Files{Cert: c.cert, Key: c.key, CA: c.ca}, slog.Default())
	case c.tls:
		host, _, _ := net.SplitHostPort(at.String()) // it is an address
		own, err = identityOf(c.system, "broker", []string{host})
	}
	return own, err
}

func openBroker(ctx context.Context, cfg brokerConfig) (b broker.Broker, file string, err error) {
	limit := cfg.limit + httpapi.Headroom
	if cfg.data == "" {
		return memory.New(memory.WithMaxEvent(limit)), "", nil
	}
	if err := os.MkdirAll(cfg.data, 0o700); err != nil {
		return nil, "", err
	}
	b, err = nats.Open(ctx, nats.Config{Dir: filepath.Join(cfg.data, "broker"), MaxEvent: limit})
	return b, filepath.Join(cfg.data, "subscriptions.json"), err
}

// serveBroker serves until ctx ends, and then waits for running deliveries.
func (a *app) serveBroker(ctx context.Context, cfg brokerConfig, listener net.Listener) error {
	b, file, err := openBroker(ctx, cfg)
	if err != nil {
		return err
	}
	settings := httpapi.Config{
		Loopback: onLoopback(listener.Addr()), Hosts: list(cfg.hosts), Token: cfg.token, File: file, MaxBody: cfg.limit,
	}
	own, err := cfg.identity(listener.Addr())
	if err != nil {
		return errors.Join(err, b.Close(ctx))
	}
	if own != nil {
		own.Start()
		defer own.Stop()
		settings.Client = httpapi.NewClient()
		settings.Client.Transport.(*http.Transport).TLSClientConfig = own.Client("", nil)
	}
	api, err := httpapi.New(ctx, b, settings)
	if err != nil {
		return errors.Join(err, b.Close(ctx))
	}
	server, scheme := httpserver.New(api), "http"
	serve := server.Serve
	if own != nil {
		callers, err := mtls.ParsePeers(list(cfg.callers))
		if err != nil {
			return errors.Join(err, api.Close(ctx), b.Close(ctx))
		}
		server, scheme = httpserver.New(mtls.Require(api, callers)), "https"
		serve = serveTLS(server, own.TLS())
	}
	served := make(chan error, 1)
	go func() { served <- serve(httpserver.Listener(listener)) }()
	where := "in memory only"
	if cfg.data != "" {
		where = "in " + cfg.data
	}
	fmt.Fprintf(
		a.Out,
		"A CloudEvents broker is at %s://%s, subscriptions at /subscriptions; events are kept %s.\n"+
			"Ctrl-C stops it.\n",
		scheme,
		reachable(listener.Addr()),
		where,
	)
	select {
	case err = <-served:
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainLimit)
	defer cancel()
	if stopErr := server.Shutdown(drain); stopErr != nil {
		_ = server.Close()
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	short, stop := context.WithTimeout(drain, 5*time.Second)
	defer stop()
	return errors.Join(err, api.Close(short), b.Close(drain))
}
