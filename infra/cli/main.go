package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ebb-dev/ebb/infra/config"
	"github.com/ebb-dev/ebb/infra/internal/processwide"
	"github.com/ebb-dev/ebb/infra/system"
)

// The exit codes, after the conventions of shells.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2   // wrong arguments or configuration
	exitInterrupted = 130 // 128 and SIGINT
)

// Process holds the environment of one call of the command. Main fills it from the operating system; tests set their
// own.
type Process struct {
	Name     string // the command's name in its help; "": the system's
	In       io.Reader
	Out, Err io.Writer
	Lookup   config.Lookup
	Dir      string // the directory of the code; "": the working directory

	ConfigDir string           // the user's configuration; "": os.UserConfigDir
	CacheDir  string           // holds built commands; "": os.UserCacheDir
	Build     *debug.BuildInfo // build information of the command itself; nil: unknown
}

// Main runs the command of a product with the arguments of the process, and exits.
func Main(s system.System) {
	processwide.Set()
	ctx, stop := interruptible()
	p := Process{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Lookup: config.Environment, Name: calledAs(os.Args[0])}
	p.Build, _ = debug.ReadBuildInfo()
	code := Run(ctx, s, p, os.Args[1:])
	stop()
	os.Exit(code)
}

// Run runs the command with these arguments until it is done or ctx ends, and returns the exit code.
func Run(ctx context.Context, s system.System, p Process, args []string) int {
	if p.Name == "" {
		p.Name = s.Name
	}
	if p.Dir == "" {
		p.Dir = "."
	}
	a := &app{Process: p, system: s, terminal: isTerminal, secret: askTerminal}
	root := a.root()
	a.args = rewrite(root, args)
	root.SetArgs(a.args)
	called, err := root.ExecuteContextC(ctx)
	return a.report(called, err)
}

// app is one call of the command.
type app struct {
	Process
	system   system.System
	args     []string
	terminal func(io.Writer) bool
	secret   func(in io.Reader, out io.Writer, question string) (string, error)
}

func calledAs(arg0 string) string { return strings.TrimSuffix(filepath.Base(arg0), ".exe") }

// interruptible returns a context that ends with the first signal. The second ends the process at once.
func interruptible() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(exitInterrupted)
	}()
	return ctx, cancel
}

// usageError is an error in the arguments.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usageErrorf(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errReported is a failure that was already shown to the user.
var errReported = errors.New("")

// exitCode is the exit code of a process that ran in place of this one and reported its errors itself.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// report shows an error to the user and returns the exit code.
func (a *app) report(called *cobra.Command, err error) int {
	var settings *config.Error
	var usage usageError
	var code exitCode
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &settings):
		fmt.Fprintln(a.Err, settings.Error())
		return exitUsage
	case errors.As(err, &usage):
		a.complain(err)
		if called != nil {
			fmt.Fprintf(a.Err, "usage: %s\n", called.UseLine())
		}
		return exitUsage
	case err != errReported:
		a.complain(err)
	}
	return exitFailed
}

func (a *app) complain(err error) {
	fmt.Fprintf(a.Err, "%s %s\n", a.paint(a.Err, red, a.Name+":"), plain(err.Error()))
}
