package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/open"
	_ "github.com/ebb-dev/ebb/infra/broker/open/aws" // sqs:
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/config/source"
	"github.com/ebb-dev/ebb/infra/host/local"
	"github.com/ebb-dev/ebb/infra/host/memlimit"
	"github.com/ebb-dev/ebb/infra/httpserver"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

const defaultAddr = "127.0.0.1:8080"

// devConfig holds the settings of dev from the environment. Flags take precedence.
type devConfig struct {
	Profile  string        `envconfig:"EBB_PROFILE" desc:"file that a CPU profile of the whole run is written to"`
	Addr     string        `envconfig:"EBB_ADDR" default:"127.0.0.1:8080" desc:"where to listen"`
	Hosts    string        `envconfig:"EBB_HOSTS" desc:"more host names to accept, with commas; * for any"`
	Origins  string        `envconfig:"EBB_CORS_ORIGINS" desc:"origins whose scripts may call, with commas; * for any"`
	Data     string        `envconfig:"EBB_DATA" desc:"directory of the data"`
	Broker   string        `envconfig:"EBB_BROKER" desc:"URL of the broker; none: a server in this process"`
	Idle     time.Duration `envconfig:"EBB_IDLE" default:"60s" desc:"time without work after which a function is stopped"`
	Log      time.Duration `envconfig:"EBB_LOG_RETENTION" default:"168h" desc:"how long the broker's log keeps events for a function that is not there any more; negative: for ever"`
	Issuer   string        `envconfig:"EBB_ISSUER" default:"ebb" desc:"the iss claim of tokens"`
	Audience string        `envconfig:"EBB_AUDIENCE" default:"ebb" desc:"the aud claim of tokens"`
	TLS      bool          `envconfig:"EBB_TLS" desc:"speak TLS with a certificate of the development authority in the data directory"`
	Seed     bool          `envconfig:"EBB_SEED" default:"true" desc:"fill a new system with samples"`
}

// Validate returns an error for each invalid value, joined.
func (c devConfig) Validate() error {
	var violations []error
	if err := checkAddr(c.Addr); err != nil {
		violations = append(violations, fmt.Errorf("invalid EBB_ADDR %q: want HOST:PORT such as 127.0.0.1:8080", c.Addr))
	}
	if c.Idle <= 0 {
		violations = append(violations, errors.New("EBB_IDLE must be more than 0"))
	}
	if c.Broker != "" {
		if _, err := open.ByURL(c.Broker); err != nil {
			violations = append(violations, fmt.Errorf("EBB_BROKER %w", err))
		}
	}
	if c.Log == 0 {
		violations = append(violations, errors.New("EBB_LOG_RETENTION must not be 0"))
	}
	return errors.Join(violations...)
}

func checkAddr(addr string) error {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return errors.New("want HOST:PORT such as 127.0.0.1:8080")
	}
	return nil
}

// drainLimit is how long running requests may take after an interrupt.
const drainLimit = 20 * time.Second

// devFlags are the flags of dev.
type devFlags struct {
	given map[string]string // variables of devConfig that flags set
	flags []string          // those flags as arguments, for the child of dev --watch
	watch bool
	child bool // started by dev --watch: see child.go
}

func (a *app) devCommand() *cobra.Command {
	d := devFlags{given: map[string]string{}}
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run the whole system in this process",
		Long: `Run the whole system in this process, with an embedded broker and embedded stores in one directory.

With --watch it is built again and restarted when a file of the module changes. The old process serves until the new
one is built; errors of the compiler are shown here and at the address. The data is kept.

EBB_BROKER names another broker by its URL, such as nats://HOST:4222; see docs/brokers.md.

With --tls it speaks TLS, with a certificate of a development authority that it makes in the data directory: other
commands trust it, and a browser does when it is told to trust authority/ca.crt there.

Its log is also written to the data directory: the logs command shows it.`,
		Example: a.example(`
$ dev
$ dev --addr 127.0.0.1:9000 --data /tmp/try --idle 5s
$ dev --watch`),
		Args: noArgs,
	}
	d.define(a, c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		if !d.child {
			if done, err := a.delegate(c.Context(), mayBeForeign); done || err != nil {
				return err
			}
		}
		return a.dev(c.Context(), d)
	}
	return c
}

func (d *devFlags) define(a *app, f *pflag.FlagSet) {
	variable := func(name, variable, usage string, check func(string) error) {
		f.Func(name, usage, func(value string) error {
			if err := check(value); err != nil {
				return err
			}
			d.give(name, variable, value)
			return nil
		})
	}
	variable("addr", "EBB_ADDR", "where to listen: `HOST:PORT` (EBB_ADDR, "+defaultAddr+")", checkAddr)
	variable(
		"data",
		"EBB_DATA",
		"`directory` of the data (EBB_DATA, "+a.dataDir()+")",
		func(string) error { return nil },
	)
	variable(
		"idle",
		"EBB_IDLE",
		"after this `time` without work a function is stopped (EBB_IDLE, 60s)",
		func(v string) error {
			if idle, err := time.ParseDuration(v); err != nil || idle <= 0 {
				return errors.New("want a duration of more than 0 such as 250ms or 1m30s")
			}
			return nil
		},
	)
	variable(
		"log-retention",
		"EBB_LOG_RETENTION",
		"how long the broker keeps events for a function that is not there any more: a `time`, negative for ever "+
			"(EBB_LOG_RETENTION, 168h)",
		func(v string) error {
			if retention, err := time.ParseDuration(v); err != nil || retention == 0 {
				return errors.New("want a duration other than 0 such as 24h, or -1s for ever")
			}
			return nil
		},
	)
	f.BoolFunc("tls", tlsUsage, func(value string) error {
		if _, err := strconv.ParseBool(value); err != nil {
			return errors.New("want true or false")
		}
		d.give("tls", tlsVariable, value)
		return nil
	})
	variable("config", source.FileVariable, "`file` with settings, beneath the environment (EBB_CONFIG)",
		func(string) error { return nil })
	variable("hosts", hostsVariable, hostsUsage, func(string) error { return nil })
	f.BoolVar(&d.watch, "watch", false, "build and restart the system when a file changes")
	f.BoolVar(&d.child, "watched", false, "")
	_ = f.MarkHidden("watched")
}

// give records the value of a flag. Of a flag that is given twice the last value counts.
func (d *devFlags) give(name, variable, value string) {
	d.given[variable] = value
	d.flags = append(d.flags, "--"+name+"="+value)
}

func (a *app) dev(ctx context.Context, d devFlags) error {
	given := config.Overlay(config.Map(d.given), a.Lookup, config.Map(map[string]string{"EBB_DATA": a.dataDir()}))
	sources, err := a.openSources(ctx, given, "")
	if err != nil {
		return err
	}
	lookup := sources.Lookup
	cfg, err := config.Load[devConfig]("", lookup)
	if cfg.Data == "" { // the variable is set to ""
		cfg.Data = a.dataDir()
	}
	if d.watch {
		if err == nil && cfg.TLS {
			err = usageErrorf("--watch and --tls exclude each other")
		}
		if err != nil {
			return err
		}
		return a.watch(ctx, cfg, d.flags)
	}
	memlimit.Set() // before functions are made, which may size their caches by it
	logs := &logFile{path: filepath.Join(cfg.Data, logDir, logName)}
	defer logs.Close()
	watch, telemetryErr := telemetry.Start(ctx, telemetry.Config{Service: a.system.Name, Log: a.Err, Copy: logs,
		Lookup: quiet(lookup)})
	if err := config.Join(err, telemetryErr, checkSettings(a.system, sources)); err != nil {
		return err
	}
	defer func() { _ = watch.Shutdown(context.WithoutCancel(ctx)) }()
	if d.child {
		var stop context.CancelFunc
		ctx, stop = untilParentEnds(ctx, a.In)
		defer stop()
	}
	listener, err := d.listen(cfg.Addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	sources.OnChange(func() {
		level, _ := quiet(lookup)(telemetry.LevelVariable)
		_ = watch.SetLevel(level) // it was checked
	})
	following, stop := context.WithCancel(ctx)
	defer stop()
	go sources.Run(following)
	return a.host(ctx, cfg, sources, watch, listener, d.child)
}

// passkeySettings sets the site of passkeys, unless the environment does: localhost, since browsers make none for an
// address such as 127.0.0.1.
func passkeySettings(named map[string]string, lookup config.Lookup, tls bool, at net.Addr) {
	const site, origins = "EBB_PASSKEY_RP_ID", "EBB_PASSKEY_ORIGINS"
	for _, name := range []string{site, origins} {
		if _, set := lookup(name); set {
			return
		}
	}
	scheme := "http"
	if tls {
		scheme = "https"
	}
	_, port, err := net.SplitHostPort(at.String())
	if err != nil {
		return
	}
	named[site], named[origins] = "localhost", scheme+"://localhost:"+port
}

// listen listens at the address, or uses the listener that dev --watch passes to its child.
func (d devFlags) listen(addr string) (net.Listener, error) {
	if d.child {
		return inherited()
	}
	return listen(addr)
}

func listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use by another process; stop it, or choose another address with --addr", addr)
	}
	return l, err
}

// The setting of the host names that requests may have besides those of loopback.
const (
	hostsVariable = "EBB_HOSTS"
	hostsUsage    = "more host `names` to accept, with commas; * for any. Without it, on loopback only loopback's names " +
		"are accepted (" + hostsVariable + ")"
)

// onLoopback reports whether only this machine can reach the address.
func onLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// list splits a list at its commas.
func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// quiet sets the default log level to warn, because people read the terminal.
func quiet(lookup config.Lookup) config.Lookup {
	return config.Overlay(lookup, config.Map(map[string]string{"EBB_LOG_LEVEL": "warn"}))
}

// tuneRuntime sets GOMAXPROCS and GOGC for a process with many functions, unless the environment sets them. One more
// processor for each function lets the scheduler run other goroutines while stores sync: a goroutine in fsync occupies
// its processor until the runtime notices. GOGC of 200 makes collections rarer under load, and costs no memory at rest,
// because the host returns memory when it drops a function. See docs/performance.md.
func tuneRuntime(lookup config.Lookup, functions int) {
	if _, set := lookup("GOMAXPROCS"); !set {
		runtime.GOMAXPROCS(runtime.NumCPU() + functions)
	}
	if _, set := lookup("GOGC"); !set {
		debug.SetGCPercent(200)
	}
}

// host hosts the system until ctx ends, and then drains it. A child of dev --watch does so without a word about
// interrupts, because it is restarted after each change.
func (a *app) host(ctx context.Context, cfg devConfig, sources *source.Sources, watch *telemetry.Telemetry,
	listener net.Listener, child bool) (err error) {
	lookup := sources.Lookup
	tuneRuntime(lookup, len(a.system.Functions))
	stop, err := profile(cfg.Profile)
	if err != nil {
		return err
	}
	defer stop()
	admin, made, err := firstAdmin(a.system.Name, cfg.Data, lookup)
	if err != nil {
		return err
	}
	var opener broker.Opener
	if cfg.Broker != "" {
		if opener, err = open.ByURL(cfg.Broker); err != nil {
			return err
		}
	}
	named := map[string]string{"EBB_ADMIN_EMAIL": admin.Email, "EBB_ADMIN_PASSWORD": admin.Password}
	if _, set := lookup("EBB_PASSWORD_MIN"); !set {
		named["EBB_PASSWORD_MIN"] = "8" // for trying things out; what is deployed asks for 15
	}
	passkeySettings(named, lookup, cfg.TLS, listener.Addr())
	host, err := local.New(ctx, local.Config{
		Dir: cfg.Data, Idle: cfg.Idle, LogRetention: cfg.Log, Lookup: lookup, Telemetry: watch,
		Settings: sources.Effective, System: a.system, Broker: opener,
		Loopback: onLoopback(listener.Addr()), Hosts: list(cfg.Hosts), Origins: list(cfg.Origins),
		Logs:    correlatedLogs(filepath.Join(cfg.Data, logDir, logName)),
		Claims:  local.Claims{Issuer: cfg.Issuer, Audience: cfg.Audience},
		Secrets: a.ownSettings(sources, map[string]config.Lookup{"users": config.Map(named)}),
	})
	if err != nil {
		return err
	}
	defer func() {
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainLimit)
		defer cancel()
		err = errors.Join(err, host.Close(drain))
	}()
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true) // for gRPC
	server := httpserver.New(host.Handler())
	server.Protocols = &protocols
	served, address := make(chan error, 1), "http://"+reachable(listener.Addr())
	serve := server.Serve
	if cfg.TLS {
		own, err := identityOf(cfg.Data, a.system.Name, list(cfg.Hosts))
		if err != nil {
			return err
		}
		own.Start()
		defer own.Stop()
		protocols.SetHTTP2(true)
		address = "https://" + reachable(listener.Addr())
		serve = serveTLS(server, own.Public().TLS())
	}
	go func() { served <- serve(httpserver.Listener(listener)) }()

	a.seed(ctx, cfg, address, admin)
	a.banner(address, cfg.Data, admin, made)
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	if !child {
		fmt.Fprintf(a.Err, "%s: draining; a second interrupt leaves at once\n", a.Name)
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainLimit)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		_ = server.Close()
	}
	return nil
}

// seed fills a new system through its API. It reports a failure as a warning, and the system runs on.
func (a *app) seed(ctx context.Context, cfg devConfig, address string, admin credentials) {
	if !cfg.Seed || a.system.Seed == nil {
		return
	}
	quietly := *a
	quietly.terminal = func(io.Writer) bool { return false }
	c := quietly.newClient(address, func() (credentials, error) { return admin, nil })
	err := c.trustAuthority(cfg.Data)
	if err == nil {
		err = a.system.Seed(ctx, c.callLazily)
	}
	if err != nil && ctx.Err() == nil {
		fmt.Fprintf(a.Err, "%s: the samples could not be added: %v\n", a.Name, err)
	}
}

// reachable returns an address that a client on this machine can use.
func reachable(a net.Addr) string { return dialable(a.String()) }

// dialable returns the address at which a client on this machine reaches a server that listens on addr: loopback for
// one that listens on all addresses.
func dialable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

func (a *app) banner(url, data string, admin credentials, made bool) {
	fmt.Fprintf(a.Out, "%s is running at %s (documentation at %s/docs), its data is in %s.\n",
		cmp.Or(a.system.Documents.Title, a.system.Name), url, url, data)
	if made {
		fmt.Fprintf(a.Out, "Admin: %s with password %s\n", admin.Email, admin.Password)
	}
	fmt.Fprintln(a.Out, "Ctrl-C stops it.")
}
