// Command ebb is the developer's tool: it runs the whole system on a laptop, scaffolds functions,
// writes the files that are derived from them, and looks into a system that is running.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/ebb-dev/ebb/infra/config"
)

// The exit codes, after the conventions of shells.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2   // it was called, or configured, wrongly
	exitInterrupted = 130 // 128 and SIGINT
)

// command is one thing ebb can do.
type command struct {
	name  string
	args  string
	about string
	run   func(ctx context.Context, t *tool, args []string) error
}

// tool is the world as commands see it.
type tool struct {
	in       io.Reader
	out, err io.Writer
	lookup   config.Lookup
	dir      string // where the code is
}

func commands() []command {
	return []command{
		{"dev", "", "run the whole system in this process", dev},
		{"new", "function NAME", "scaffold a function that compiles and runs", scaffold},
		{"generate", "[--check]", "write the files that are derived from the functions, or say which are stale", generateFiles},
		{"manifest", "[--json]", "show what every function serves, hears, says and stores", manifest},
		{"events", "[list] | show ID | tree ORDER", "look at the events of a running system", eventsCommand},
		{"dlq", "[list] | show ID | replay ID | drop ID", "look at, replay and drop dead letters of a running system", dlq},
		{"broker", "[--data DIR]", "serve a stand-alone CloudEvents broker on loopback", brokerCommand},
		{"conformance", "URL", "hold any CloudEvents broker against Knative's delivery specification and CESQL", conformanceCommand},
		{"keys", "generate | public | rotate", "make signing keys, show their public side, or rotate those of the data directory", keys},
	}
}

func main() {
	ctx, stop := interrupted()
	t := &tool{in: os.Stdin, out: os.Stdout, err: os.Stderr, lookup: config.Environment, dir: "."}
	code := t.main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// interrupted is a context that ends with the first signal. The second leaves at once.
func interrupted() (context.Context, context.CancelFunc) {
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

func (t *tool) main(ctx context.Context, args []string) int {
	if len(args) == 0 {
		t.help(t.err)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		t.help(t.out)
		return exitOK
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return t.report(c.run(ctx, t, args[1:]))
		}
	}
	fmt.Fprintf(t.err, "ebb: there is no command %q; ebb help lists them\n", args[0])
	return exitUsage
}

func (t *tool) help(w io.Writer) {
	fmt.Fprint(w, "ebb runs and develops a system of functions that scale to zero.\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  ebb %s\n        %s\n", trim(c.name+" "+c.args), c.about)
	}
	fmt.Fprint(w, "\nebb COMMAND --help shows a command's flags.\n")
}

func trim(s string) string {
	for len(s) > 0 && s[len(s)-1] == ' ' {
		s = s[:len(s)-1]
	}
	return s
}

// usage is an error of whoever called.
type usage struct{ error }

func wrong(format string, args ...any) error { return usage{fmt.Errorf(format, args...)} }

// errStale says that something is wrong which has been told already.
var errStale = errors.New("")

func (t *tool) report(err error) int {
	var faults *config.Error
	var called usage
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.As(err, &faults):
		fmt.Fprintln(t.err, faults.Error())
		return exitUsage
	case errors.As(err, &called):
		fmt.Fprintln(t.err, "ebb:", err)
		return exitUsage
	case err != errStale:
		fmt.Fprintln(t.err, "ebb:", err)
	}
	return exitFailed
}

// flags makes a set whose faults are the caller's.
func (t *tool) flags(name, args string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {
		fmt.Fprintf(t.out, "usage: ebb %s [flags]\n", trim(name+" "+args))
		f.SetOutput(t.out)
		f.PrintDefaults()
		f.SetOutput(io.Discard)
	}
	return f
}

// parse takes flags before, between and behind the other arguments, which it returns.
func parse(f *flag.FlagSet, args []string) ([]string, error) {
	var rest []string
	for {
		if err := f.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, usage{err}
		}
		if f.NArg() == 0 {
			return rest, nil
		}
		rest = append(rest, f.Arg(0))
		args = f.Args()[1:]
	}
}
