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
	input io.Closer // closing it tells the child to drain and exit
	tail  *tail
	done  chan struct{}
}

// startChild runs the binary with the listener. Its output goes to the parent's output.
func (a *app) startChild(binary string, args []string, listener net.Listener) (*child, error) {
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("cannot pass on a listener of type %T", listener)
	}
	file, err := tcp.File()
	if err != nil {
		return nil, fmt.Errorf("cannot pass on the listener: %w", err)
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
		_ = c.cmd.Wait() // ProcessState holds the outcome
		close(c.done)
	}()
	return c, nil
}

// stop tells the process to drain and waits until it exits. It kills a process that does not exit in time.
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

// state returns how the process exited.
func (c *child) state() string { return c.cmd.ProcessState.String() }

// lastOutput returns the end of the process's standard error.
func (c *child) lastOutput() string { return c.tail.String() }

// tail keeps the last bytes written to it. It may be used concurrently.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// maxTail is the number of bytes that a tail keeps at least. It uses at most twice as many.
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
