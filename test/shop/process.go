package shop

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Build compiles the command ebb into dir and returns its path.
func Build(dir string) (string, error) {
	path := filepath.Join(dir, "ebb")
	out, err := exec.Command("go", "build", "-o", path, "github.com/ebb-dev/ebb/cmd/ebb").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build ebb: %w: %s", err, out)
	}
	return path, nil
}

// FreeAddress returns a free loopback address.
func FreeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// Process is a running `ebb dev`.
type Process struct {
	Binary, Addr, Data string
	Args, Env          []string
	Under              []string // a command with arguments that runs the process, such as strace

	cmd  *exec.Cmd
	done chan struct{}
	mu   sync.Mutex
	out  bytes.Buffer
}

// Write collects the output of the process.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out.Len() > 1<<20 {
		p.out.Reset()
	}
	return p.out.Write(b)
}

// Output returns the output of the process; the beginning is dropped when it is long.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// URL returns the base URL of the process.
func (p *Process) URL() string { return "http://" + p.Addr }

// Pid returns the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Start starts the process, waits until it is ready, and returns how long that took.
func (p *Process) Start(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	if err := p.Launch(); err != nil {
		return 0, err
	}
	err := p.Ready(ctx)
	return time.Since(begin), err
}

// Launch starts the process without waiting.
func (p *Process) Launch() error {
	name, args := p.Binary, append([]string{"dev", "--addr", p.Addr, "--data", p.Data}, p.Args...)
	if len(p.Under) > 0 {
		name, args = p.Under[0], append(append(p.Under[1:len(p.Under):len(p.Under)], p.Binary), args...)
	}
	p.cmd = exec.Command(name, args...)
	p.cmd.Env = append(os.Environ(), "EBB_ADMIN_EMAIL="+AdminEmail, "EBB_ADMIN_PASSWORD="+AdminPassword,
		"EBB_LOG_LEVEL=warn")
	p.cmd.Env = append(p.cmd.Env, p.Env...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		return err
	}
	cmd, done := p.cmd, make(chan struct{})
	p.done = done
	go func() { _ = cmd.Wait(); close(done) }()
	return nil
}

// Ready waits until the process is ready. If it exits instead, the error contains its output.
func (p *Process) Ready(ctx context.Context) error {
	for {
		r, err := http.Get(p.URL() + "/readyz")
		if err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w: %s", ctx.Err(), p.Output())
		case <-p.done:
			return fmt.Errorf("the process exited: %s", p.Output())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// Ended returns a channel that is closed when the process has exited.
func (p *Process) Ended() <-chan struct{} { return p.done }

// Kill kills the process with SIGKILL and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop sends SIGTERM and waits until the process exits. When ctx ends first, it kills the process.
func (p *Process) Stop(ctx context.Context) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			return fmt.Errorf("the process exited with %d: %s", code, p.Output())
		}
		return nil
	case <-ctx.Done():
		p.Kill()
		return fmt.Errorf("the process did not stop: %s", p.Output())
	}
}
