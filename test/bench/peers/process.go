package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"embed"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"text/template"
	"time"

	"github.com/ebb-dev/ebb/test/shop"
)

//go:embed files
var files embed.FS

// render executes a template of files/ with the values, and writes it to the bench's folder.
func (b *bench) render(name string, values any) (string, error) {
	t, err := template.ParseFS(files, "files/"+name)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, values); err != nil {
		return "", err
	}
	path := filepath.Join(b.dir, name)
	return path, os.WriteFile(path, out.Bytes(), 0o644)
}

func (b *bench) build(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", b.ebb, "./cmd/ebb")
	cmd.Dir = b.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build ebb: %w: %s", err, out)
	}
	return nil
}

// process is a program that this bench started.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	mu   sync.Mutex
	out  bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out.Len() < 64<<10 {
		p.out.Write(b)
	}
	return len(b), nil
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// start starts a program and waits until it listens at each address.
func start(ctx context.Context, environment []string, addrs []string, program string, args ...string) (*process,
	error) {
	return startAs(ctx, nil, environment, addrs, program, args...)
}

// startAs is start with attributes of the process, such as another user.
func startAs(ctx context.Context, attributes *syscall.SysProcAttr, environment []string, addrs []string,
	program string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.SysProcAttr = attributes
	p.cmd.Env = append(os.Environ(), environment...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, addr := range addrs {
		if err := p.listens(ctx, addr); err != nil {
			p.stop()
			return nil, fmt.Errorf("%s: %w: %s", filepath.Base(program), err, p.output())
		}
	}
	return p, nil
}

func (p *process) listens(ctx context.Context, addr string) error {
	for {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.done:
			return errors.New("the process exited")
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// answers sends one request and checks its status, so that a contender that answers wrongly is not measured.
func answers(ctx context.Context, url, token string, want int) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer w.Body.Close()
	if w.StatusCode != want {
		return fmt.Errorf("GET %s answered %s, not %d", url, w.Status, want)
	}
	return nil
}

// find returns the path of a program, which may also be in /usr/sbin, or "".
func find(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	if path, err := exec.LookPath(filepath.Join("/usr/sbin", name)); err == nil {
		return path
	}
	return ""
}

// told returns the first line of a program's output, or "" if it fails.
func told(program string, args ...string) string {
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

// field returns the nth word of a line, or the line if it has fewer words.
func field(n int, line string) string {
	if words := strings.Fields(line); n < len(words) {
		return strings.TrimSuffix(words[n], ",")
	}
	return line
}

// module returns the version of a module that this command is built with.
func module(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return ""
}

// built returns the version of the main module of a Go program.
func built(program string) string {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return ""
	}
	return info.Main.Version
}

// addresses returns n free loopback addresses.
func addresses(n int) ([]string, error) {
	var all []string
	for range n {
		a, err := shop.FreeAddress()
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}
