package cli

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"time"
)

// child is a process that serves on the listener of its parent.
type child struct {
	cmd   *exec.Cmd
	input io.Closer // closed to have it end
	tail  *tail
	done  chan struct{}
}

// startChild runs the binary with the listener. What it prints goes where the parent's output goes.
func (a *app) startChild(binary string, args []string, listener net.Listener) (*child, error) {
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("a %T cannot be passed on", listener)
	}
	file, err := tcp.File()
	if err != nil {
		return nil, fmt.Errorf("this system cannot pass a listener on: %w", err)
	}
	defer file.Close() // the child has a copy
	c := &child{cmd: exec.Command(binary, args...), tail: &tail{}, done: make(chan struct{})}
	c.cmd.ExtraFiles = []*os.File{file}
	c.cmd.Stdout, c.cmd.Stderr = a.Out, io.MultiWriter(a.Err, c.tail)
	c.cmd.WaitDelay = time.Second
	ownGroup(c.cmd)
	if c.input, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = c.cmd.Wait() // ProcessState says how it ended
		close(c.done)
	}()
	return c, nil
}

// stop has the process drain, and waits for its end. One that does not end is killed.
func (c *child) stop() {
	_ = c.input.Close()
	select {
	case <-c.done:
	case <-time.After(drainLimit + 10*time.Second):
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}

func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// state says how the process has ended.
func (c *child) state() string { return c.cmd.ProcessState.String() }

// lastWords is the end of what the process has written to standard error.
func (c *child) lastWords() string { return c.tail.String() }

// tail keeps the last bytes that were written to it. It may be used concurrently.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// maxTail is how much a tail keeps at least, in bytes; it holds twice that at most.
const maxTail = 32 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b.Write(p)
	if over := t.b.Len() - maxTail; over > maxTail {
		t.b.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}
