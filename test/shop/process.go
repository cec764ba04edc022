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

// Build compiles the developer's command into dir and returns its path.
func Build(dir string) (string, error) {
	path := filepath.Join(dir, "ebb")
	out, err := exec.Command("go", "build", "-o", path, "github.com/ebb-dev/ebb/cmd/ebb").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build ebb: %w: %s", err, out)
	}
	return path, nil
}

// FreeAddress is a loopback address that nobody listens on.
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
	Under              []string // a command, with its arguments, that the process runs under

	cmd  *exec.Cmd
	done chan struct{}
	mu   sync.Mutex
	out  bytes.Buffer
}

// Write keeps what the process prints.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out.Len() > 1<<20 {
		p.out.Reset()
	}
	return p.out.Write(b)
}

// Output is what the process printed, its beginning left out when it is much.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// URL is where it answers.
func (p *Process) URL() string { return "http://" + p.Addr }

// Pid is the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Start starts the process and waits until it answers; it returns how long that took.
func (p *Process) Start(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	if err := p.Launch(); err != nil {
		return 0, err
	}
	err := p.Ready(ctx)
	return time.Since(begin), err
}

// Launch starts the process and does not wait for it.
func (p *Process) Launch() error {
	name, args := p.Binary, append([]string{"dev", "--addr", p.Addr, "--data", p.Data}, p.Args...)
	if len(p.Under) > 0 {
		name, args = p.Under[0], append(append(p.Under[1:len(p.Under):len(p.Under)], p.Binary), args...)
	}
	p.cmd = exec.Command(name, args...)
	p.cmd.Env = append(os.Environ(), "EBB_ADMIN_EMAIL="+AdminEmail, "EBB_ADMIN_PASSWORD="+AdminPassword, "EBB_LOG_LEVEL=warn")
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

// Ready waits until the process answers. One that ends instead is an error with what it printed.
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
			return fmt.Errorf("it ended: %s", p.Output())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.done }

// Kill ends the process at once, as a SIGKILL does.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop asks the process to finish and waits for it.
func (p *Process) Stop(ctx context.Context) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			return fmt.Errorf("it ended with %d: %s", code, p.Output())
		}
		return nil
	case <-ctx.Done():
		p.Kill()
		return fmt.Errorf("it did not stop: %s", p.Output())
	}
}
