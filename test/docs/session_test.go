package docs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/format"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Session is a shell in which the commands of a page run one after the other, with the servers that they start. It is
// used by one goroutine.
type Session struct {
	// Replace is applied to what is run and written: pairs of old and new, such as addresses and paths.
	Replace *strings.Replacer

	// Patience is for how long a command that only reads is repeated until it prints what is promised: what it reads
	// may come by an event.
	Patience time.Duration

	ctx     context.Context
	shell   *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	env     []string
	servers []*server
}

// NewSession starts a shell in a directory. Close ends it and the servers.
func NewSession(ctx context.Context, dir string, env ...string) (*Session, error) {
	s := &Session{ctx: ctx, env: append(os.Environ(), env...), Replace: strings.NewReplacer()}
	s.Patience = 20 * time.Second
	s.shell = exec.CommandContext(ctx, "bash", "--noprofile", "--norc")
	s.shell.Dir, s.shell.Env = dir, s.env
	var err error
	if s.in, err = s.shell.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.shell.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.shell.Stderr = s.shell.Stdout
	s.out = bufio.NewReader(out)
	if err := s.shell.Start(); err != nil {
		return nil, err
	}
	_, _, err = s.do("set -o pipefail")
	return s, err
}

// Close ends the servers, the commands in the background and the shell, and waits for the servers and the shell.
func (s *Session) Close() error {
	var errs []error
	_, _, _ = s.do("kill $(jobs -p) 2>&1; true") // the shell may have ended
	for _, v := range s.servers {
		errs = append(errs, v.stop())
	}
	errs = append(errs, s.in.Close())
	_ = s.shell.Wait() // its status is that of its last command
	return errors.Join(errs...)
}

const mark = "\x01 end of the command "

// do runs a command in the shell and returns its output and its status.
func (s *Session) do(command string) (output string, status int, err error) {
	// The command reads nothing: what comes next on the shell's input is the next command.
	if _, err := fmt.Fprintf(s.in, "{ %s\n} </dev/null\nprintf '%s%%d\\n' $?\n", command, mark); err != nil {
		return "", 0, err
	}
	var b strings.Builder
	for {
		line, err := s.out.ReadString('\n')
		if before, code, found := strings.Cut(line, mark); found {
			b.WriteString(before)
			status, err = strconv.Atoi(strings.TrimSpace(code))
			return b.String(), status, err
		}
		b.WriteString(line)
		if err != nil {
			return b.String(), 0, fmt.Errorf("the shell has ended: %w", err)
		}
	}
}

// Dir returns the current directory of the shell.
func (s *Session) Dir() (string, error) {
	out, _, err := s.do("pwd")
	return strings.TrimSpace(out), err
}

// Block does what a block says. An error names the line of the page.
func (s *Session) Block(p Page, b Block) error {
	if name, content, excerpt, ok := b.File(); ok {
		return s.at(p, b.Line, s.file(name, s.Replace.Replace(content), excerpt))
	}
	if name, changes, ok := b.Diff(); ok {
		return s.change(p, name, changes)
	}
	if b.Lang != "sh" {
		return nil
	}
	for _, c := range b.Commands() {
		if err := s.at(p, c.Line, s.command(c)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) at(p Page, line int, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s:%d: %w", p.Name, line, err)
}

// file writes a file, or checks that a file has an excerpt.
func (s *Session) file(name, content string, excerpt bool) error {
	dir, err := s.Dir()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, filepath.FromSlash(name))
	if excerpt {
		got, err := os.ReadFile(path)
		if err == nil && !strings.Contains(string(got), content) {
			err = fmt.Errorf("%s has no such lines:\n%s", name, content)
		}
		return err
	}
	return s.write(path, content)
}

// change applies the changes of a diff to a file.
func (s *Session) change(p Page, name string, changes []Change) error {
	dir, err := s.Dir()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, filepath.FromSlash(name))
	content, err := os.ReadFile(path)
	if err != nil {
		return s.at(p, changes[0].Line, err)
	}
	text := string(content)
	for _, c := range changes {
		old := s.Replace.Replace(c.Old)
		if n := strings.Count(text, old); n != 1 || old == "" {
			return s.at(p, c.Line, fmt.Errorf("%s has these lines %d times, want once:\n%s", name, n, old))
		}
		text = strings.Replace(text, old, s.Replace.Replace(c.New), 1)
	}
	return s.at(p, changes[0].Line, s.write(path, text))
}

func (s *Session) write(path, content string) error {
	if strings.HasSuffix(path, ".go") {
		formatted, err := format.Source([]byte(content))
		if err != nil {
			return err
		}
		if string(formatted) != content {
			return fmt.Errorf("%s is not formatted as gofmt does", filepath.Base(path))
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
		for _, v := range s.servers {
			v.expect()
		}
	}
	return os.WriteFile(path, []byte(content), 0o644)
}

// serves matches a command that runs until it is stopped: the reader gives it a terminal of its own.
var serves = regexp.MustCompile(`^(make run|bin/[\w-]+ dev)\b`)

// reads matches a command that changes nothing, or nothing more when it is repeated.
var reads = regexp.MustCompile(`^(curl|(bin/\S+|go run \./cmd/\w+) (events|dlq|timers|logs|call get-))`)

var writes = regexp.MustCompile(`-X (POST|DELETE|PATCH)| (-d|--data) `)

func repeatable(command string) bool {
	return reads.MatchString(command) && (!writes.MatchString(command) || strings.Contains(command, "-X PUT"))
}

// command runs a command until it has printed what is promised.
func (s *Session) command(c Command) error {
	for _, v := range s.servers {
		if err := v.await(s.ctx); err != nil {
			return err
		}
	}
	text := s.Replace.Replace(strings.TrimSuffix(c.Text, "\n"))
	wants := make([]string, len(c.Wants))
	for i, w := range c.Wants {
		wants[i] = s.Replace.Replace(w)
	}
	if serves.MatchString(text) {
		return s.serve(text, wants)
	}
	for until := time.Now().Add(s.Patience); ; time.Sleep(100 * time.Millisecond) {
		out, err := s.once(text, c.MustFail())
		if err == nil {
			err = promised(out, wants)
		}
		if err == nil || !repeatable(c.Text) || time.Now().After(until) {
			return err
		}
	}
}

func (s *Session) once(text string, fails bool) (string, error) {
	out, status, err := s.do(text)
	if err == nil && (status != 0) != fails {
		err = fmt.Errorf("exit status %d\n%s", status, out)
	}
	return out, err
}

// promised reports which of the promises an output does not hold, in their order.
func promised(out string, wants []string) error {
	rest := out
	for _, want := range wants {
		_, after, found := strings.Cut(rest, want)
		if !found {
			return fmt.Errorf("the output has no %s, or not in this order:\n%s", want, out)
		}
		rest = after
	}
	return nil
}

// server is a command that runs beside the shell.
type server struct {
	cmd  *exec.Cmd
	done chan struct{}

	mu     sync.Mutex
	out    bytes.Buffer
	starts int           // how often it must have said that it is running
	news   chan struct{} // has an element when there is more output
}

func (s *Session) serve(text string, wants []string) error {
	dir, err := s.Dir()
	if err != nil {
		return err
	}
	v := &server{done: make(chan struct{}), starts: 1, news: make(chan struct{}, 1)}
	v.cmd = exec.CommandContext(s.ctx, "bash", "-c", "exec "+text)
	v.cmd.Dir, v.cmd.Env = dir, s.env
	v.cmd.Stdout, v.cmd.Stderr = v, v
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt goes to all of it, as from a terminal
	if err := v.cmd.Start(); err != nil {
		return err
	}
	go func() { _ = v.cmd.Wait(); close(v.done) }()
	s.servers = append(s.servers, v)
	if err := v.await(s.ctx); err != nil {
		return err
	}
	return promised(v.output(), wants)
}

// Write keeps what the server prints.
func (v *server) Write(b []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case v.news <- struct{}{}:
	default:
	}
	return v.out.Write(b)
}

func (v *server) output() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.out.String()
}

const running = "is running at http://"

// expect makes await wait for a new start, if the server is one that watches its source.
func (v *server) expect() {
	if strings.Contains(v.cmd.String(), "--watch") {
		v.starts = strings.Count(v.output(), running) + 1
	}
}

// await waits until the server has said that it is running.
func (v *server) await(ctx context.Context) error {
	for strings.Count(v.output(), running) < v.starts {
		select {
		case <-v.news:
		case <-v.done:
			return fmt.Errorf("%s has ended:\n%s", v.cmd, v.output())
		case <-ctx.Done():
			return fmt.Errorf("%s did not start: %w\n%s", v.cmd, ctx.Err(), v.output())
		}
	}
	return nil
}

func (v *server) stop() error {
	select {
	case <-v.done:
		return fmt.Errorf("%s has ended by itself:\n%s", v.cmd, v.output())
	default:
	}
	if err := syscall.Kill(-v.cmd.Process.Pid, syscall.SIGINT); err != nil {
		return err
	}
	select {
	case <-v.done:
		return nil
	case <-time.After(30 * time.Second):
	}
	err := syscall.Kill(-v.cmd.Process.Pid, syscall.SIGKILL)
	<-v.done
	return errors.Join(fmt.Errorf("%s did not stop:\n%s", v.cmd, v.output()), err)
}
