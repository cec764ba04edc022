package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/host/local"
	"github.com/ebb-dev/ebb/infra/host/memlimit"
	"github.com/ebb-dev/ebb/infra/httpserver"
	"github.com/ebb-dev/ebb/infra/telemetry"
)

// devConfig is what ebb dev reads from the environment. Flags go before.
type devConfig struct {
	Profile  string        `envconfig:"EBB_PROFILE" desc:"file that a CPU profile of the whole run is written to"`
	Addr     string        `envconfig:"EBB_ADDR" default:"127.0.0.1:8080" desc:"where to listen"`
	Hosts    string        `envconfig:"EBB_HOSTS" desc:"further names that requests may be for, with commas between; * for any"`
	Origins  string        `envconfig:"EBB_CORS_ORIGINS" desc:"origins whose scripts may call from a browser, with commas between; * for any"`
	Data     string        `envconfig:"EBB_DATA" default:".ebb" desc:"directory of the data"`
	Idle     time.Duration `envconfig:"EBB_IDLE" default:"60s" desc:"after this time without work a function is stopped"`
	Issuer   string        `envconfig:"EBB_ISSUER" default:"ebb" desc:"the iss claim of tokens"`
	Audience string        `envconfig:"EBB_AUDIENCE" default:"ebb" desc:"the aud claim of tokens"`
	Seed     bool          `envconfig:"EBB_SEED" default:"true" desc:"add sample products to an empty catalog"`
}

// Validate says what is wrong with the values.
func (c devConfig) Validate() error {
	var faults []error
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		faults = append(faults, fmt.Errorf("EBB_ADDR is %q, which is not a host and a port such as 127.0.0.1:8080", c.Addr))
	}
	if c.Idle <= 0 {
		faults = append(faults, errors.New("EBB_IDLE must be more than 0"))
	}
	return errors.Join(faults...)
}

// tuneRuntime makes the runtime fit a process that holds so many functions, where the environment does not say how. One
// processor more for each lets the scheduler run something else while their stores sync: a goroutine in fsync holds its
// processor until the runtime notices. A collection at three times what lives rather than two is seldom enough under
// load, and costs nothing at rest: the host returns memory when a function is dropped. See docs/performance.md.
func tuneRuntime(lookup config.Lookup, functions int) {
	if _, said := lookup("GOMAXPROCS"); !said {
		runtime.GOMAXPROCS(runtime.NumCPU() + functions)
	}
	if _, said := lookup("GOGC"); !said {
		debug.SetGCPercent(200)
	}
}

// drainLimit is how long requests that are under way may take after an interrupt.
const drainLimit = 20 * time.Second

func dev(ctx context.Context, t *tool, args []string) error {
	lookup, err := devFlags(t, args)
	if err != nil {
		return err
	}
	memlimit.Set() // before functions are made, which may size what they hold by it
	cfg, err := config.Load[devConfig]("", lookup)
	watch, telemetryErr := telemetry.Start(ctx, telemetry.Config{Service: "ebb", Log: t.err, Lookup: quiet(lookup)})
	declared, declareErr := functions.System().Declare()
	if declareErr != nil {
		return declareErr
	}
	keys := config.Map(map[string]string{"EBB_SIGNING_KEYS": "made by the host"})
	settingsErr := declared.CheckSettings(config.Overlay(lookup, keys)) // named together with the rest
	if err := config.Join(err, telemetryErr, settingsErr); err != nil {
		return err
	}
	defer func() { _ = watch.Shutdown(context.WithoutCancel(ctx)) }()
	listener, err := listen(cfg.Addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	return run(ctx, t, cfg, lookup, watch, listener)
}

// devFlags puts what the flags say before the environment.
func devFlags(t *tool, args []string) (config.Lookup, error) {
	f := t.flags("dev", "")
	said := map[string]string{}
	for name, variable := range map[string]string{"addr": "EBB_ADDR", "data": "EBB_DATA", "idle": "EBB_IDLE", "hosts": hostsName} {
		f.Func(name, map[string]string{
			"addr":  "where to listen (EBB_ADDR, 127.0.0.1:8080)",
			"data":  "directory of the data (EBB_DATA, .ebb)",
			"idle":  "after this time without work a function is stopped (EBB_IDLE, 60s)",
			"hosts": hostsHelp,
		}[name], func(value string) error { said[variable] = value; return nil })
	}
	rest, err := parse(f, args)
	if err == nil && len(rest) > 0 {
		err = wrong("dev takes no arguments, but there is %q", rest[0])
	}
	return config.Overlay(config.Map(said), t.lookup), err
}

// The names that requests may be for, besides those of loopback.
const (
	hostsName = "EBB_HOSTS"
	hostsHelp = "further names, with commas between, that requests may be for; * for any. On loopback only loopback's names are without it (" + hostsName + ")"
)

// onLoopback reports whether only this machine reaches the address.
func onLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// list returns what stands between commas.
func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// quiet logs warnings and worse unless asked for more: a laptop's terminal is for people.
func quiet(lookup config.Lookup) config.Lookup {
	return config.Overlay(lookup, config.Map(map[string]string{"EBB_LOG_LEVEL": "warn"}))
}

func listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use by another process; stop it, or choose another address with --addr", addr)
	}
	return l, err
}

// run hosts the system until ctx ends, and then drains it.
func run(ctx context.Context, t *tool, cfg devConfig, lookup config.Lookup, watch *telemetry.Telemetry, listener net.Listener) (err error) {
	sys := functions.System()
	tuneRuntime(lookup, len(sys.Functions))
	stop, err := profile(cfg.Profile)
	if err != nil {
		return err
	}
	defer stop()
	admin, made, err := firstAdmin(cfg.Data, lookup)
	if err != nil {
		return err
	}
	host, err := local.New(ctx, local.Config{
		Dir: cfg.Data, Idle: cfg.Idle, Lookup: lookup, Telemetry: watch,
		System:   sys,
		Loopback: onLoopback(listener.Addr()), Hosts: list(cfg.Hosts), Origins: list(cfg.Origins),
		Claims:  local.Claims{Issuer: cfg.Issuer, Audience: cfg.Audience},
		Secrets: map[string]config.Lookup{"users": config.Map(map[string]string{"EBB_ADMIN_EMAIL": admin.Email, "EBB_ADMIN_PASSWORD": admin.Password})},
	})
	if err != nil {
		return err
	}
	defer func() {
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainLimit)
		defer cancel()
		err = errors.Join(err, host.Close(drain))
	}()
	server := httpserver.New(host.Handler())
	served := make(chan error, 1)
	go func() { served <- server.Serve(httpserver.Listener(listener)) }()

	c := &client{url: "http://" + reachable(listener.Addr()), admin: admin}
	if cfg.Seed && sys.Seed != nil {
		if err := sys.Seed(ctx, c.call); err != nil && ctx.Err() == nil {
			fmt.Fprintln(t.err, "ebb: the sample products could not be added:", err)
		}
	}
	banner(t, c.url, cfg.Data, admin, made)
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	fmt.Fprintln(t.err, "ebb: draining; a second interrupt leaves at once")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainLimit)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		_ = server.Close()
	}
	return nil
}

// reachable is an address that a client on this machine can use.
func reachable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

func banner(t *tool, url, data string, admin credentials, made bool) {
	fmt.Fprintf(t.out, "Ebb is running at %s (documentation at %s/docs), its data is in %s.\n", url, url, data)
	if made {
		fmt.Fprintf(t.out, "Admin: %s with password %s\n", admin.Email, admin.Password)
	}
	fmt.Fprintln(t.out, "Ctrl-C stops it.")
}

// credentials sign somebody in.
type credentials struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

// adminFile keeps the admin that ebb dev made because nobody was named.
const adminFile = "admin.json"

// firstAdmin is who the environment names, or who was made for this data directory.
func firstAdmin(dir string, lookup config.Lookup) (admin credentials, made bool, err error) {
	if admin, ok := namedAdmin(lookup); ok {
		return admin, false, nil
	}
	path := filepath.Join(dir, adminFile)
	data, err := os.ReadFile(path)
	if err == nil {
		if err := json.Unmarshal(data, &admin); err != nil {
			return admin, false, fmt.Errorf("%s: %w", path, err)
		}
		return admin, true, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return admin, false, err
	}
	admin = credentials{Email: "admin@ebb.localhost", Password: strings.ToLower(rand.Text())}
	if data, err = json.Marshal(admin); err == nil {
		if err = os.MkdirAll(dir, 0o700); err == nil {
			err = local.WriteSecret(path, data)
		}
	}
	return admin, true, err
}

// namedAdmin passes half a pair on too, for users to refuse.
func namedAdmin(lookup config.Lookup) (credentials, bool) {
	email, _ := lookup("EBB_ADMIN_EMAIL")
	password, _ := lookup("EBB_ADMIN_PASSWORD")
	return credentials{Email: email, Password: password}, email != "" || password != ""
}

func fallback(lookup config.Lookup, name, otherwise string) string {
	if value, ok := lookup(name); ok && value != "" {
		return value
	}
	return otherwise
}
