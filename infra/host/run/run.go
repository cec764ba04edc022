// Package run turns settings into a hosted function, for any product: it reads the environment, opens the ports that it
// names and hosts the function on Knative, or with ServeOn on a plain machine.
//
//	func main() { run.Main(functions.System()) }
//
// The settings:
//
//   - FUNCTION, and PORT (8080).
//   - EBB_STORE: memory:, sqlite:PATH, postgres://USER@HOST/DATABASE, firestore://PROJECT/DATABASE.
//   - EBB_BROKER: nats://HOST:4222 and others, see package broker/open and docs/brokers.md: where events are published
//     and come from, instead of K_SINK and deliveries by HTTP.
//   - K_SINK, K_CE_OVERRIDES and K_CA_CERTS, which a SinkBinding sets: where events are published. On Google Cloud
//     K_SINK is pubsub:projects/PROJECT/topics/TOPIC, and push subscriptions bring events; see docs/deploy-google.md.
//   - EBB_VERIFICATION_KEYS, EBB_ISSUER, EBB_AUDIENCE: what access tokens are checked with.
//   - EBB_OIDC_*: another issuer; see docs/security.md.
//   - EBB_SENDER_AUDIENCE, EBB_SENDERS, EBB_SENDER_ISSUER: who may deliver events; see knative.Senders.
//   - EBB_DELIVERY, EBB_DELIVERY_<FUNCTION>: how events are delivered where that differs from the declaration, such as
//     timeout=1m,batch=32; see broker.ParseTuning.
//   - EBB_TLS_CERT and EBB_TLS_KEY: files with the certificate of the listener and its key; none: no TLS.
//   - EBB_TLS_CA: a file with the authorities of this system's processes: TLS is mutual then, see docs/mtls.md.
//   - EBB_TLS_CLIENT_CERT and EBB_TLS_CLIENT_KEY: what a gateway shows to functions, if not what it shows to strangers.
//   - EBB_TLS_CALLERS, EBB_TLS_SENDERS, EBB_TLS_MACHINES: which SPIFFE IDs may call, deliver events, and have roles.
//   - EBB_PROXY_PROTOCOL: networks of the proxies whose connections begin with a header of the PROXY protocol.
//   - EBB_MANIFEST_HASH: the hash of the declaration that the platform was set up with.
//   - the settings of the function itself; see terraform/manifest.json.
//   - EBB_CONFIG and EBB_CONFIG_CONSUL: a file and a prefix of Consul's keys with settings, beneath the environment;
//     see package config/source and docs/configuration.md.
package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	brokerknative "github.com/ebb-dev/ebb/infra/broker/knative"
	"github.com/ebb-dev/ebb/infra/broker/pubsub"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/config/source"
	"github.com/ebb-dev/ebb/infra/discovery"
	"github.com/ebb-dev/ebb/infra/function"
	hostsettings "github.com/ebb-dev/ebb/infra/host/internal/settings"
	"github.com/ebb-dev/ebb/infra/host/knative"
	"github.com/ebb-dev/ebb/infra/host/memlimit"
	"github.com/ebb-dev/ebb/infra/httpserver"
	"github.com/ebb-dev/ebb/infra/mtls"
	"github.com/ebb-dev/ebb/infra/store/open"
	"github.com/ebb-dev/ebb/infra/system"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// settings are what the host reads, beside what the function itself does.
type settings struct {
	Function       string   `envconfig:"FUNCTION" required:"true" desc:"the function that this process hosts"`
	Port           int      `envconfig:"PORT" default:"8080" desc:"where to listen"`
	Store          string   `envconfig:"EBB_STORE" desc:"where its documents are: memory:, sqlite:PATH, postgres://USER@HOST/DATABASE, firestore://PROJECT/DATABASE"`
	Broker         string   `envconfig:"EBB_BROKER" desc:"URL of the broker that events are published to and come from"`
	Sink           string   `envconfig:"K_SINK" desc:"where its events are published: a URL, or pubsub:projects/PROJECT/topics/TOPIC"`
	Overrides      string   `envconfig:"K_CE_OVERRIDES" desc:"extensions that its events get"`
	CACerts        string   `envconfig:"K_CA_CERTS" desc:"authorities that the sink's certificate may come from"`
	Keys           string   `envconfig:"EBB_VERIFICATION_KEYS" desc:"public JWK set that access tokens are checked with, or file:PATH of one that may be replaced"`
	Issuer         string   `envconfig:"EBB_ISSUER" default:"ebb" desc:"the iss claim of access tokens"`
	Audience       string   `envconfig:"EBB_AUDIENCE" default:"ebb" desc:"the aud claim of access tokens"`
	SenderIssuer   string   `envconfig:"EBB_SENDER_ISSUER" default:"https://kubernetes.default.svc" desc:"who issues the identities of those who deliver events"`
	SenderAudience string   `envconfig:"EBB_SENDER_AUDIENCE" desc:"what the identity of a sender must be meant for; none: identities are not checked"`
	Senders        []string `envconfig:"EBB_SENDERS" desc:"who may deliver events, with commas between; a * at the end stands for anything"`
	Manifest       string   `envconfig:"EBB_MANIFEST_HASH" desc:"hash of the declaration that the platform was set up with"`
	Cert           string   `envconfig:"EBB_TLS_CERT" desc:"file with the certificate of the listener before those of its authorities, PEM; read again when it changes; none: no TLS"`
	Key            string   `envconfig:"EBB_TLS_KEY" desc:"file with the key of the certificate, PEM"`
	Proxies        []string `envconfig:"EBB_PROXY_PROTOCOL" desc:"networks of the proxies whose connections begin with a header of the PROXY protocol, with commas between"`
	CA             string   `envconfig:"EBB_TLS_CA" desc:"file with the authorities of this system's processes, PEM: TLS is mutual then"`
	ClientCert     string   `envconfig:"EBB_TLS_CLIENT_CERT" desc:"file with the certificate that a gateway shows to functions, PEM; none: that of the listener"`
	ClientKey      string   `envconfig:"EBB_TLS_CLIENT_KEY" desc:"file with the key of that certificate, PEM"`
	Callers        []string `envconfig:"EBB_TLS_CALLERS" desc:"SPIFFE IDs that may call its operations, with commas between; a * at the end stands for anything below a slash; none: the gateway's"`
	Deliverers     []string `envconfig:"EBB_TLS_SENDERS" desc:"SPIFFE IDs that may deliver events, with commas between; none: the one of the process broker"`
	Machines       string   `envconfig:"EBB_TLS_MACHINES" desc:"roles of machines that call by their own certificates: ID=ROLE, with commas between"`
	Service        string   `envconfig:"K_SERVICE" desc:"name of the Knative Service"`
	Revision       string   `envconfig:"K_REVISION" desc:"name of its revision"`
}

// Validate reports every value that cannot be used.
func (s settings) Validate() error {
	var faults []error
	if s.Port < 1 || s.Port > 65535 {
		faults = append(faults, fmt.Errorf("PORT is %d, which is no port", s.Port))
	}
	if (s.SenderAudience == "") != (len(s.Senders) == 0) {
		faults = append(faults, errors.New("EBB_SENDER_AUDIENCE and EBB_SENDERS go together: set both or neither"))
	}
	if s.Broker != "" && s.Sink != "" {
		faults = append(faults, errors.New("EBB_BROKER and K_SINK exclude each other: set one of them"))
	}
	if (s.Cert == "") != (s.Key == "") {
		faults = append(faults, errors.New("EBB_TLS_CERT and EBB_TLS_KEY go together: set both or neither"))
	}
	faults = append(faults, s.validateMutual()...)
	if _, err := httpserver.Networks(s.Proxies); err != nil {
		faults = append(faults, fmt.Errorf("EBB_PROXY_PROTOCOL: %w", err))
	}
	return errors.Join(faults...)
}

// hosted is a host with what was opened around it.
type hosted struct {
	*knative.Host
	telemetry *telemetry.Telemetry
	logger    *slog.Logger
	port      int
	identity  *mtls.Identity  // nil: no mutual TLS
	sources   *source.Sources // nil: the environment alone

	unfollow context.CancelFunc // set by watch
}

// watch begins to keep the identity current, until unwatch, and to follow the sources of settings, until ctx ends or
// unwatch is called.
func (h *hosted) watch(ctx context.Context) {
	if h.identity != nil {
		h.identity.Start()
	}
	ctx, h.unfollow = context.WithCancel(ctx)
	if h.sources != nil {
		go h.sources.Run(ctx)
	}
}

// unwatch ends what watch has begun.
func (h *hosted) unwatch() {
	h.unfollow()
	if h.identity != nil {
		h.identity.Stop()
	}
}

// Serve hosts the function of the system that $FUNCTION names at $PORT until ctx ends, and drains. An error of the
// settings is a *config.Error and names every violation. Log lines go to log; nil is standard error.
func Serve(ctx context.Context, sys system.System, lookup config.Lookup, log io.Writer) error {
	h, err := compose(ctx, sys, lookup, log, Machine{})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", ":"+strconv.Itoa(h.port))
	if err != nil {
		return err
	}
	h.watch(ctx)
	err = h.Host.Serve(ctx, l)
	h.unwatch()
	return errors.Join(err, h.telemetry.Shutdown(context.WithoutCancel(ctx)))
}

// Machine is what a function that no platform hosts gets from its surroundings.
type Machine struct {
	Listener  net.Listener        // where requests come; ServeOn closes it
	Discovery discovery.Discovery // finds the instances of functions for a gateway; nil: by the gateway's own settings

	Identity *mtls.Identity // of this process, for mutual TLS; nil: by the settings EBB_TLS_*

	// Register makes the instance known where gateways look for it, as long as ready returns nil, until deregister is
	// called; nil: it is not made known.
	Register func(ready func(context.Context) error) (deregister func(context.Context) error, err error)
}

// deregisterLimit is how long a machine may take to make an instance unknown before it drains all the same.
const deregisterLimit = 5 * time.Second

// ServeOn hosts the function of the system that $FUNCTION names on a plain machine until ctx ends. Then it makes the
// instance unknown first, serves what still comes, and drains. Errors are those of Serve.
func ServeOn(ctx context.Context, sys system.System, lookup config.Lookup, log io.Writer, m Machine) error {
	defer m.Listener.Close()
	h, err := compose(ctx, sys, lookup, log, m)
	if err != nil {
		return err
	}
	h.watch(ctx)
	defer h.unwatch()
	serving, drain := context.WithCancel(context.WithoutCancel(ctx))
	defer drain()
	deregister := func(context.Context) error { return nil }
	if m.Register != nil {
		if deregister, err = m.Register(func(context.Context) error { return h.Ready() }); err != nil {
			return err
		}
	}
	leave := sync.OnceValue(func() error {
		limited, cancel := context.WithTimeout(serving, deregisterLimit)
		defer cancel()
		return deregister(limited)
	})
	stop := context.AfterFunc(ctx, func() {
		if err := leave(); err != nil {
			h.logger.Warn("the instance may get requests until its check fails", "error", err)
		}
		drain()
	})
	defer stop()
	err = h.Host.Serve(serving, m.Listener)
	if stop() { // it ended by itself
		err = errors.Join(err, leave())
	}
	return errors.Join(err, h.telemetry.Shutdown(context.WithoutCancel(ctx)))
}

// compose makes the host of a function. It opens nothing, but reads settings and certificates.
func compose(
	ctx context.Context, sys system.System, environment config.Lookup, log io.Writer, m Machine,
) (*hosted, error) {
	sources, lookup, err := openSources(ctx, sys, environment, log)
	if err != nil {
		return nil, err
	}
	h, err := composeFrom(sys, lookup, sources, log, m)
	switch {
	case sources == nil:
		return h, err
	case err != nil:
		name, _ := environment("FUNCTION")
		return nil, sources.Locate(name, err)
	}
	h.sources = sources
	sources.OnChange(func() {
		level, _ := lookup(telemetry.LevelVariable)
		_ = h.telemetry.SetLevel(level) // it was checked
	})
	return h, nil
}

// composeFrom makes the host of a function from all its settings. The sources are nil where the environment has them.
func composeFrom(
	sys system.System, lookup config.Lookup, sources *source.Sources, log io.Writer, m Machine,
) (*hosted, error) {
	set, err := config.Load[settings]("", lookup)
	definition, known := sys.Lookup(set.Function)
	if !known && set.Function != "" {
		err = config.Join(err, hostsettings.Error("FUNCTION", "is %q, but the functions are %s",
			set.Function, strings.Join(sys.Names(), ", ")))
	}
	memlimit.Set() // before functions are made, which may size what they hold by it
	watch, watchErr := telemetry.Start(context.Background(), telemetry.Config{
		Service: sys.Name + "-" + set.Function, Version: set.Revision, Log: log, Lookup: lookup,
	})
	if err = config.Join(err, watchErr); err != nil {
		return nil, err
	}
	env := function.Env{
		Lookup: lookup, Telemetry: watch, Logger: watch.Logger(set.Function), System: sys.Declared(),
		Discovery: m.Discovery,
	}
	env.Settings = func() config.Report {
		if sources != nil {
			return sources.Effective(set.Function)
		}
		environment := config.Origin{Name: config.FromEnvironment, Lookup: lookup}
		return config.ReportOf(Known(env.System()).Of(set.Function), environment)
	}
	ports := set.ports(lookup)
	secure, secureErr := set.mutual(m.Identity, env.Logger)
	if secure != nil {
		ports.TLS = secure.toSink
	}
	opened := config.Join(openPorts(ports, &env), secureErr)
	if secure != nil {
		secure.serve(&env)
	}
	remote, remoteErr := set.broker(&env)
	cfg := knative.Config{Manifest: set.Manifest, Telemetry: watch, Logger: env.Logger}
	cfg.Proxies, _ = httpserver.Networks(set.Proxies) // Validate has parsed them
	var sendersErr, certErr error
	cfg.Senders, sendersErr = set.senders()
	cfg.Certificate, certErr = set.certificate(env.Logger)
	f, err := definition.New(env)
	if err == nil {
		declared := f.Instance().Declaration()
		tuned, wrong := declared.Tuned(lookup)
		cfg.Delivery, err = &tuned, config.Join(ports.Missing(declared.Function), wrong)
		if remote != nil {
			remote.trigger, cfg.Source = tuned, remote
		}
		if secure != nil {
			err = config.Join(err, secure.host(&cfg, declared.Function, env.System))
		}
	}
	if err = config.Join(opened, remoteErr, err, sendersErr, certErr); err != nil {
		return nil, err
	}
	h := &hosted{Host: knative.New(f.Instance(), cfg), telemetry: watch, logger: env.Logger, port: set.Port}
	if secure != nil {
		h.identity = secure.identity
	}
	return h, nil
}

// ports returns the settings of the function's ports.
func (s settings) ports(lookup config.Lookup) hostsettings.Ports {
	return hostsettings.Ports{
		Function: s.Function, Store: s.Store, Broker: s.Broker, Sink: s.Sink, Overrides: s.Overrides, CACerts: s.CACerts,
		SinkToken: brokerknative.TokenFile, Keys: s.Keys, Issuer: s.Issuer, Audience: s.Audience, Lookup: lookup,
	}
}

// openPorts makes the ports. It opens no connection. Here a sink may be a topic of Pub/Sub, which package settings does
// not know.
func openPorts(ports hostsettings.Ports, env *function.Env) error {
	var sinkErr error
	if strings.HasPrefix(ports.Sink, pubsub.SinkPrefix) {
		publisher, err := pubsub.NewPublisher(ports.Sink)
		if err != nil {
			sinkErr = hostsettings.Error("K_SINK", "%v", err)
		} else {
			env.Publisher = publisher
		}
		ports.Sink = ""
	}
	return config.Join(sinkErr, ports.Open(env, open.ByURL))
}

// certificate returns the certificate of the listener; nil: it speaks no TLS.
func (s settings) certificate(log *slog.Logger) (knative.Certificate, error) {
	if s.Cert == "" || s.Key == "" {
		return nil, nil
	}
	cert, err := httpserver.OpenCertificate(s.Cert, s.Key, log)
	if err != nil {
		return nil, hostsettings.Error("EBB_TLS_CERT", "%v", err)
	}
	return cert, nil
}

func (s settings) senders() (*knative.Senders, error) {
	if s.SenderAudience == "" {
		return nil, nil
	}
	senders, err := knative.NewSenders(knative.SendersConfig{Issuer: s.SenderIssuer, Audience: s.SenderAudience,
		Subjects: s.Senders})
	if err != nil {
		return nil, hostsettings.Error("EBB_SENDERS", "%v", err)
	}
	return senders, nil
}
