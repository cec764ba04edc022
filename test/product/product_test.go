// Package product_test makes a product in another module, as a new user does, and tries everything that the kit
// promises of it.
package product_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/cli"
	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/system"
)

var plans = flag.Bool(
	"terraform",
	false,
	"plan the environments of the product: after make tools, with Terraform installed",
)

// root returns the checkout that this test is part of.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// newProduct makes example.com/helpdesk with this checkout as its kit, and returns its directory.
func newProduct(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "helpdesk")
	var out, errs bytes.Buffer
	p := cli.Process{In: strings.NewReader(""), Out: &out, Err: &errs, Lookup: config.Environment, Dir: "."}
	args := []string{"new", "product", dir, "--module", "example.com/helpdesk", "--kit", root(t)}
	if code := cli.Run(t.Context(), system.System{Name: "ebb"}, p, args); code != 0 {
		t.Fatalf("new product: exit code %d\n%s%s", code, &out, &errs)
	}
	return dir
}

// run runs a command and returns what it prints. It uses the build cache of this test's own build: the packages of the
// kit are compiled once.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "GOWORK=off")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A product is small but for the generated clients and the schema of its settings, passes its checks and tests right
// away, runs, and takes a ticket through its saga. What is scaffolded in it does so too.
func TestProduct(t *testing.T) {
	dir := newProduct(t)
	if files := countFiles(t, dir); files > 30 {
		t.Errorf("the product has %d files, want at most 30", files)
	}
	if lines := countWiring(t, dir); lines > 25 {
		t.Errorf("the product is wired by %d lines, want at most 25", lines)
	}
	run(t, dir, "make", "check", "test", "build")
	wantTypes(t, dir)
	tryTickets(t, dir)

	for _, args := range [][]string{{"reviews"}, {"refunds", "--saga"}} {
		out := run(t, dir, "bin/helpdesk", append([]string{"new", "function"}, args...)...)
		if !strings.Contains(out, "functions/"+args[0]+" is written") {
			t.Errorf("new function %v: %s", args, out)
		}
	}
	// An event that was never committed is renamed without further ado.
	for _, p := range []string{"events/reviews.go", "functions/reviews/function_test.go"} {
		renamed := strings.Replace(read(t, dir, p), "reviews.added", "reviews.written", 1)
		if err := os.WriteFile(filepath.Join(dir, p), []byte(renamed), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(t, dir, "make", "generate", "test")
	manifest := read(t, dir, "terraform/manifest.json")
	for _, want := range []string{
		`"/api/reviews/{id}"`, `"/api/refunds"`,
		"com.example.helpdesk.refunds.prepare.v1", "com.example.helpdesk.reviews.written.v1",
	} {
		if !strings.Contains(manifest, want) {
			t.Errorf("the manifest has no %s", want)
		}
	}
	if strings.Contains(manifest+read(t, dir, "events/testdata/reviews.json"), "reviews.added") {
		t.Error("the old name of the event is left")
	}
}

// The environments of a product can be planned, and its Makefile says what it has.
func TestTerraform(t *testing.T) {
	if !*plans {
		t.Skip("make terraform runs this")
	}
	dir := newProduct(t)
	out := run(t, dir, "make", "terraform")
	if got := regexp.MustCompile(`(?m)^Plan: [1-9][0-9]* to add`).FindAllString(out, -1); len(got) != 2 {
		t.Errorf("want two plans, got\n%s", out)
	}
}

// countWiring returns the lines of code that make one product of its functions and the kit: its programs, its list of
// functions and its namespace, without imports.
func countWiring(t *testing.T, dir string) (n int) {
	t.Helper()
	wiring := []string{
		"function.go", "cmd/function/main.go", "cmd/helpdesk/main.go", "functions/functions.go", "events/events.go",
	}
	imports := regexp.MustCompile(`(?s)^.*?\nimport (\(.*?\n\)|"[^\n]*")\n`)
	for _, file := range wiring {
		source := read(t, dir, filepath.FromSlash(file))
		code := strings.TrimPrefix(source, imports.FindString(source))
		if len(code) == len(source) {
			t.Errorf("%s: found no imports", file)
		}
		for line := range strings.Lines(code) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
				n++
			}
		}
	}
	return n
}

// countFiles returns the number of files of a product without those of the generated clients.
func countFiles(t *testing.T, dir string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		clients := []string{filepath.Join(dir, "api", "client"), filepath.Join(dir, "api", "typescript")}
		if err == nil && entry.IsDir() && (entry.Name() == ".git" || slices.Contains(clients, path)) {
			return fs.SkipDir
		}
		if err == nil && !entry.IsDir() && entry.Name() != "config.schema.json" {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// wantTypes checks that AsyncAPI lists types of the product and of the kit's functions, and no others.
func wantTypes(t *testing.T, dir string) {
	t.Helper()
	var document struct {
		Channels map[string]struct {
			Address string `json:"address"`
		} `json:"channels"`
	}
	if err := json.Unmarshal([]byte(read(t, dir, "api/asyncapi.json")), &document); err != nil {
		t.Fatal(err)
	}
	allowed := regexp.MustCompile(
		`^(com\.example\.helpdesk\.(tickets|agents)|` +
			`dev\.ebb\.(users|notifications|clock|archive|audit|outside|sagas))\.[a-z-]+\.v1$`,
	)
	for _, c := range document.Channels {
		if !allowed.MatchString(c.Address) {
			t.Errorf("AsyncAPI lists %s", c.Address)
		}
	}
	for _, want := range []string{"tickets_opened_v1", "agents_assign_v1", "clock_schedule_v1", "users_registered_v1"} {
		if document.Channels[want].Address == "" {
			t.Errorf("AsyncAPI does not list %s", want)
		}
	}
}

// tryTickets runs the product, opens two tickets for an agent who takes one, and follows each to its end.
func tryTickets(t *testing.T, dir string) {
	t.Helper()
	s := start(t, dir)
	defer s.stop()
	s.call("PUT", "/api/agents/grace", `{"capacity": 1}`, nil)
	for i, want := range []ticket{
		{Status: "assigned", AgentID: "grace"}, {Status: "unassigned", Reason: "no agent is free"},
	} {
		var opened ticket
		s.call("POST", "/api/tickets", fmt.Sprintf(`{"title": "ticket %d"}`, i), &opened)
		got := opened
		for end := time.Now().Add(20 * time.Second); got.Status == "open" && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
			s.call("GET", "/api/tickets/"+opened.ID, "", &got)
		}
		if want.ID = opened.ID; opened.Status != "open" || got != want {
			t.Errorf("ticket %d was %+v and is %+v, want %+v", i, opened, got, want)
		}
	}
}

type ticket struct {
	ID      string `json:"id"`
	Status  string `json:"status"`
	AgentID string `json:"agent_id"`
	Reason  string `json:"reason"`
}

// running is a product that runs, for calls as its administrator.
type running struct {
	t          *testing.T
	process    *exec.Cmd
	out        *bytes.Buffer
	ended      chan error
	url, token string
}

func start(t *testing.T, dir string) *running {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	s := &running{t: t, out: &bytes.Buffer{}, ended: make(chan error, 1)}
	s.process = exec.CommandContext(ctx, filepath.Join(dir, "bin/helpdesk"), "dev", "--addr", "127.0.0.1:0")
	s.process.Dir = dir
	s.process.Stderr = s.out
	out, err := s.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	at := make(chan string, 1)
	go func() {
		address := regexp.MustCompile(`at (http://127\.0\.0\.1:\d+)`)
		for text, buffer := "", make([]byte, 4096); ; {
			n, err := out.Read(buffer)
			text += string(buffer[:n])
			if found := address.FindStringSubmatch(text); found != nil {
				select {
				case at <- found[1]:
				default:
				}
			}
			if err != nil {
				s.ended <- s.process.Wait()
				return
			}
		}
	}()
	select {
	case s.url = <-at:
	case err := <-s.ended:
		t.Fatalf("it ended: %v\n%s", err, s.out)
	}
	var session struct {
		Token string `json:"access_token"`
	}
	s.call("POST", "/api/sessions", read(t, dir, ".helpdesk/admin.json"), &session)
	s.token = session.Token
	return s
}

// call calls an operation and decodes its answer, which must be a success.
func (s *running) call(method, path, body string, into any) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if s.token != "" {
		r.Header.Set("Authorization", "Bearer "+s.token)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode >= 300 {
		s.t.Fatalf("%s %s: %d %s %v", method, path, answer.StatusCode, text, err)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(text, into); err != nil {
		s.t.Fatalf("%s %s: %v in %s", method, path, err, text)
	}
}

// stop interrupts the product and waits for its end.
func (s *running) stop() {
	s.t.Helper()
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Error(err)
	}
	if err := <-s.ended; err != nil {
		s.t.Errorf("it ended with %v\n%s", err, s.out)
	}
}
