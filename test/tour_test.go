package test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/test/shop"
)

// tour is the README's tour as one shell script: its blocks in order.
func tour(t *testing.T) (script string, promises []string) {
	t.Helper()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, found := strings.Cut(string(readme), "## A five-minute tour")
	if !found {
		t.Fatal("the README has no tour")
	}
	part, _, _ = strings.Cut(part, "\n## ")
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(part, -1) {
		script += block[1]
	}
	for _, p := range regexp.MustCompile(`(?m)   # (.*)$`).FindAllStringSubmatch(script, -1) {
		promises = append(promises, strings.Split(p[1], "   ")...)
	}
	return script, promises
}

// The tour works as it is printed: the commands succeed, and each answer holds what the comment behind it says.
func TestTour(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "sed"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the tour needs %s: install it", tool)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	dir := t.TempDir()
	binary, err := shop.Build(dir)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := shop.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	p := &shop.Process{Binary: binary, Addr: addr, Data: filepath.Join(dir, "data")}
	if _, err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer p.Kill()

	script, promises := tour(t)
	script = strings.ReplaceAll(script, "127.0.0.1:8080", addr)
	script = strings.ReplaceAll(script, "go run ./cmd/ebb", binary)
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Env = append(os.Environ(), "EBB_URL="+p.URL(), "EBB_ADMIN_EMAIL="+shop.AdminEmail, "EBB_ADMIN_PASSWORD="+shop.AdminPassword, "EBB_DATA="+p.Data)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if len(promises) < 5 {
		t.Errorf("the tour promises only %q", promises)
	}
	rest := string(out)
	for _, want := range promises {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("after what came before, the answers hold no %s:\n%s", want, out)
		}
		rest = after
	}
}
