package main

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions"
	"github.com/ebb-dev/ebb/infra/broker/nats"
	"github.com/ebb-dev/ebb/infra/cli"
	"github.com/ebb-dev/ebb/infra/config"
)

// said is what a command writes, for tests that read while it runs.
type said struct {
	mu    sync.Mutex
	b     bytes.Buffer
	wrote chan struct{} // signaled after each write; of both outputs of a process
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	n, err := s.b.Write(p)
	s.mu.Unlock()
	select {
	case s.wrote <- struct{}{}:
	default: // the signal before was not taken yet
	}
	return n, err
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// process is what the command is called with in a test.
func process(dir string, vars map[string]string) (p cli.Process, out, errs *said) {
	wrote := make(chan struct{}, 1)
	out, errs = &said{wrote: wrote}, &said{wrote: wrote}
	return cli.Process{
		In: strings.NewReader(""), Out: out, Err: errs, Lookup: config.Map(vars), Dir: dir,
		ConfigDir: filepath.Join(dir, "config"), CacheDir: filepath.Join(dir, "cache"),
	}, out, errs
}

func ebb(ctx context.Context, dir string, vars map[string]string, args ...string) (code int, out, errs *said) {
	p, out, errs := process(dir, vars)
	return cli.Run(ctx, functions.System(), p, args), out, errs
}

// devPattern finds the address of ebb dev.
const devPattern = `is running at (http://\S+)`

// listening waits until a command says where it listens, and returns the address that the pattern finds.
func listening(t testing.TB, pattern string, ended chan int, out, errs *said) string {
	t.Helper()
	listens, limit := regexp.MustCompile(pattern), time.After(time.Minute)
	for {
		if at := listens.FindStringSubmatch(out.String() + errs.String()); at != nil {
			return at[1]
		}
		select {
		case <-out.wrote:
		case code := <-ended:
			ended <- code
			t.Fatalf("it ended with %d: %s%s", code, out, errs)
		case <-limit:
			t.Fatalf("it does not listen: %s%s", out, errs)
		}
	}
}

// All that is wrong with the configuration is told at once.
func TestFaultsOfTheConfiguration(t *testing.T) {
	vars := map[string]string{
		"EBB_ADDR": "here", "EBB_IDLE": "soon", "EBB_LOG_FORMAT": "xml", "EBB_LOG_RETENTION": "0s", // ebb's own
		"EBB_ACCESS_TTL": "soon", "EBB_CLOCK_SWEEP": "late", "EBB_ADMIN_EMAIL": "me", // functions'
	}
	code, _, errs := ebb(t.Context(), "", vars, "dev", "--data", t.TempDir())
	if code != 2 {
		t.Errorf("exit code %d", code)
	}
	for name := range vars {
		if !strings.Contains(errs.String(), name) {
			t.Errorf("%s is not in %q", name, errs)
		}
	}
}

// running is a system in a directory of its own.
type running struct {
	t         *testing.T
	dir, url  string
	out, errs *said
	interrupt context.CancelFunc
	ended     chan int
}

func startDev(t *testing.T, dir string) *running {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	p, out, errs := process(dir, nil)
	r := &running{t: t, dir: dir, out: out, errs: errs, interrupt: interrupt, ended: make(chan int, 1)}
	t.Cleanup(interrupt)
	go func() {
		args := []string{"dev", "--addr", "127.0.0.1:0", "--data", dir, "--idle", "200ms"}
		r.ended <- cli.Run(ctx, functions.System(), p, args)
	}()
	r.url = listening(t, devPattern, r.ended, out, errs)
	return r
}

// ask runs a command against the system.
func (r *running) ask(args ...string) (code int, out, errs *said) {
	return ebb(r.t.Context(), r.dir, nil, append(args, "--url", r.url, "--data", r.dir)...)
}

// see runs a command until it says something.
func (r *running) see(want string, args ...string) string {
	r.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		code, out, errs := r.ask(args...)
		if code == 0 && strings.Contains(out.String(), want) {
			return out.String()
		}
		if time.Now().After(end) {
			r.t.Fatalf("%v: %d, %s%s", args, code, out, errs)
		}
	}
}

func (r *running) stop() {
	r.t.Helper()
	r.interrupt()
	select {
	case code := <-r.ended:
		if code != 0 {
			r.t.Errorf("exit code %d: %s", code, r.errs)
		}
	case <-time.After(20 * time.Second):
		r.t.Fatal("it does not end")
	}
}

// A system that runs has its products, shows its events, and drains when it is interrupted.
func TestDev(t *testing.T) {
	r := startDev(t, t.TempDir())
	if !strings.Contains(r.out.String(), "Admin: ") {
		t.Errorf("the admin is not told: %s", r.out)
	}
	r.see("catalog.product-changed.v1", "events")
	r.see(
		`"type":"dev.ebb.inventory.stock-changed.v1"`,
		"events",
		"list",
		"--json",
		"--type",
		"dev.ebb.inventory.stock-changed.v1",
		"--since",
		"1h",
	)
	r.see("No dead letters.", "dlq")
	code, listed, _ := r.ask("events", "--limit", "1")
	lines := strings.Split(strings.TrimSpace(listed.String()), "\n")
	if code != 0 || len(lines) != 2 || !strings.HasPrefix(lines[0], "TIME ") {
		t.Fatalf("--limit 1: %d, %q", code, lines)
	}
	row := strings.Fields(lines[1]) // time, type, subject, id
	r.see(row[3], "events", "show", row[3])
	r.see("+0s", "events", "tree", row[2])
	r.stop()

	info, err := os.Stat(filepath.Join(r.dir, "admin.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("admin.json: %v, %v", info, err)
	}
}

// An event that no attempt can deliver is listed with its reason, shown, sent out again, comes back, and is dropped.
func TestDeadLetters(t *testing.T) {
	r := startDev(t, t.TempDir())
	r.see("inventory.stock-changed.v1", "events") // inventory has its trigger
	r.stop()
	poison := ce.New()
	poison.SetID("poison")
	poison.SetSource("/functions/orders")
	poison.SetType(events.InventoryShip.Name())
	poison.SetSubject("no-order")
	if err := poison.SetData(ce.ApplicationJSON, map[string]any{"order_id": ""}); err != nil {
		t.Fatal(err)
	}
	b, err := nats.Open(t.Context(), nats.Config{Dir: filepath.Join(r.dir, "broker")})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), poison); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	r = startDev(t, r.dir)
	listed := strings.Split(r.see("inventory.ship.v1", "dlq"), "\n")
	row := strings.Fields(listed[1]) // id, time, function, type, subject, times, code and reason
	id := row[0]
	if got := strings.Join(row[2:7], " "); got != "inventory inventory.ship.v1 no-order 1 422" {
		t.Errorf("the list shows %q", got)
	}
	r.see(`"times": 1`, "dlq", "show", id)
	r.see("on its way again", "dlq", "replay", id)
	r.see(`"times": 2`, "dlq", "show", id)
	if code, _, errs := r.ask("dlq", "drop", id); code != 0 {
		t.Errorf("drop: %d, %s", code, errs)
	}
	r.see("No dead letters.", "dlq", "list")
	if code, _, errs := r.ask("dlq", "show", id); code != 1 || !strings.Contains(errs.String(), "404") {
		t.Errorf("after the drop: %d, %s", code, errs)
	}
	r.stop()
}

// The committed files are those that the functions of today give, every time.
func TestDerivedFilesAreFresh(t *testing.T) {
	if code, _, errs := ebb(t.Context(), "../..", nil, "generate", "--check"); code != 0 {
		t.Errorf("exit code %d: %s", code, errs)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module github.com/ebb-dev/ebb\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := ebb(t.Context(), dir, nil, "generate"); code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	if code, _, errs := ebb(t.Context(), dir, nil, "generate", "--check"); code != 0 {
		t.Errorf("made twice they differ: %s", errs)
	}
	if err := os.WriteFile(filepath.Join(dir, "api/openapi.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := ebb(t.Context(), dir, nil, "generate", "--check"); code != 1 ||
		!strings.Contains(errs.String(), "api/openapi.json is stale") {
		t.Errorf("a stale file: %d, %s", code, errs)
	}
}

// A scaffolded function compiles, passes its own tests and those of the events, and is part of the system.
func TestNewFunction(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles a copy of everything")
	}
	dir := t.TempDir()
	copyTree(t, "../..", dir)
	code, _, errs := ebb(t.Context(), dir, nil, "new", "function", "reviews")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	run := func(args ...string) string {
		t.Helper()
		c := exec.CommandContext(t.Context(), "go", args...)
		c.Dir = dir
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	run("vet", "./functions/reviews", "./functions")
	run("test", "./functions/reviews", "./events")
	if out := run("run", "./cmd/ebb", "manifest"); !strings.Contains(out, "/api/reviews/{id}") {
		t.Errorf("reviews is not in the manifest: %s", out)
	}
	run("run", "./cmd/ebb", "generate", "--check")
	if code, _, _ := ebb(t.Context(), dir, nil, "new", "function", "reviews"); code != 1 {
		t.Errorf("the second time: exit code %d", code)
	}
}

// copyTree copies the Go code and what it embeds.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".") && name != "." {
				return fs.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), data, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}
