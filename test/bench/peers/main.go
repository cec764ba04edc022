// Command peers runs Ebb and other programs that do similar work, and prints each one's rate and its ratio to Ebb's.
//
// Everything runs on one machine and its loopback, with the load generator. The contenders of a comparison take turns,
// so that other load on the machine affects all of them; a ratio compares two turns of one round.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

type options struct {
	rounds   int
	duration time.Duration
	only     string
	out      string
	root     string
	caddy    string
	temporal string
	restate  string
	python   string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		if err := serve(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "serve:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.IntVar(&o.rounds, "rounds", 3, "how many turns each contender has")
	flag.DurationVar(&o.duration, "duration", 5*time.Second, "how long a turn lasts")
	flag.StringVar(&o.only, "only", "", "comparisons to run, comma separated: gateways, users, events, brokers, sagas")
	flag.StringVar(&o.out, "out", "../../../bench/results", "folder the table is written to")
	flag.StringVar(&o.root, "root", "../../..", "the tree whose ebb is built and measured")
	flag.StringVar(&o.caddy, "caddy", env("CADDY", "caddy"), "the Caddy to run; also $CADDY")
	flag.StringVar(&o.temporal, "temporal", env("TEMPORAL", "temporal"), "the Temporal CLI to run; also $TEMPORAL")
	flag.StringVar(&o.restate, "restate", env("RESTATE", "restate-server"), "the Restate server to run; also $RESTATE")
	flag.StringVar(&o.python, "python", env("PYTHON", "/usr/bin/python3"), "the Python that has FastAPI; also $PYTHON")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

type bench struct {
	options
	dir  string // for files of the run
	ebb  string // the built command
	self string // this command, which also serves the small Go peers
	keys keys

	ends []func() // stop what several comparisons share
}

func (b *bench) after(f func()) { b.ends = append(b.ends, f) }

func run(ctx context.Context, o options) error {
	if o.rounds < 1 || o.duration <= 0 {
		return fmt.Errorf("-rounds and -duration must be positive")
	}
	dir, err := os.MkdirTemp("", "ebb-peers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{options: o, dir: dir, ebb: filepath.Join(dir, "ebb")}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.keys, err = newKeys(dir); err != nil {
		return err
	}
	if b.wants("users") || b.wants("sagas") {
		if err := b.build(ctx); err != nil {
			return err
		}
	}
	defer func() {
		for _, end := range b.ends {
			end()
		}
	}()
	t := &table{rounds: o.rounds, duration: o.duration}
	for _, part := range []struct {
		name string
		make func(context.Context) ([]comparison, error)
	}{{"gateways", b.gateways}, {"users", b.users}, {"events", b.events}, {"brokers", b.brokers}, {"sagas", b.sagas}} {
		if !b.wants(part.name) {
			continue
		}
		comparisons, err := part.make(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		for _, c := range comparisons {
			if err := t.compare(ctx, c, o.rounds, o.duration); err != nil {
				return fmt.Errorf("%s: %w", c.title, err)
			}
		}
	}
	return t.write(o.out)
}

func (o options) wants(name string) bool {
	return o.only == "" || slices.Contains(strings.Split(o.only, ","), name)
}
