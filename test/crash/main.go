// Command crash runs the real process, ebb dev with SQLite and JetStream on disk, and crashes it while orders run:
//
//	go run ./test/crash kills -rounds 200 -orders 10000
//	go run ./test/crash power -rounds 20 -orders 60
//
// kills sends SIGKILL at random moments, also while the process recovers from the previous one. power drops writes that
// were not synced before a power cut. After that every acknowledged order must exist and have ended, nothing may be
// charged twice, and all sums over the stores must be right. A run prints its seed; -seed repeats the random draws, but
// not the exact moments.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/ebb-dev/ebb/test/shop"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(1)
	}
}

// options are the arguments of a run.
type options struct {
	rounds, orders int
	seed           uint64
	random         *rand.Rand
	dir            string // the directory of the data; it is removed after success
	binary         string
}

func run(ctx context.Context, args []string) error {
	kinds := map[string]func(context.Context, *options) (fmt.Stringer, error){
		"kills": func(ctx context.Context, o *options) (fmt.Stringer, error) { return kills(ctx, o) },
		"power": func(ctx context.Context, o *options) (fmt.Stringer, error) { return power(ctx, o) },
	}
	if len(args) == 0 || kinds[args[0]] == nil {
		return errors.New("missing command: want kills or power")
	}
	o := &options{}
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 200, "how often the process is crashed")
	f.IntVar(&o.orders, "orders", 10000, "how many orders are placed meanwhile")
	f.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "seed of the random draws")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	if err := o.prepare(); err != nil {
		return err
	}
	fmt.Printf("%s: %d rounds, %d orders, seed %d\n", args[0], o.rounds, o.orders, o.seed)
	result, err := kinds[args[0]](ctx, o)
	if err != nil {
		return fmt.Errorf("seed %d: %w\nthe data is left in %s", o.seed, err, o.dir)
	}
	fmt.Println(result)
	return os.RemoveAll(o.dir)
}

func (o *options) prepare() (err error) {
	if o.rounds < 1 || o.orders < 1 {
		return errors.New("-rounds and -orders must be at least 1")
	}
	o.random = rand.New(rand.NewPCG(o.seed, 0))
	if o.dir, err = os.MkdirTemp("", "ebb-crash-"); err != nil {
		return err
	}
	o.binary, err = shop.Build(o.dir)
	return err
}

// environment makes slow cards fast and sweeps the outboxes often. Entries that a crash left in an outbox are published
// when the function starts next, at the latest by the sweep.
var environment = []string{"EBB_PAYMENTS_SLOW=200ms", "EBB_CLOCK_SWEEP=2s"}

// process returns a process with its data in the directory name.
func (o *options) process(name string) (*shop.Process, error) {
	addr, err := shop.FreeAddress()
	return &shop.Process{Binary: o.binary, Addr: addr, Data: filepath.Join(o.dir, name),
		Args: []string{"--idle", "100ms"}, Env: environment}, err
}

// between returns a random duration.
func (o *options) between(least, most time.Duration) time.Duration {
	return least + time.Duration(o.random.Int64N(int64(most-least)))
}

// audited returns an error for violations and dead letters.
func audited(violations []string, books *shop.Books) error {
	if books.DeadLetters > 0 {
		violations = append(violations, fmt.Sprintf("there are %d dead letters", books.DeadLetters))
	}
	if len(violations) == 0 {
		return nil
	}
	return fmt.Errorf("%d invariants do not hold:\n%s", len(violations), strings.Join(violations, "\n"))
}

// progress shows the progress of a run: on a terminal after each round, elsewhere ten times.
type progress struct {
	total    int
	terminal bool
}

func newProgress(total int) *progress {
	return &progress{total: total, terminal: term.IsTerminal(int(os.Stderr.Fd()))}
}

func (p *progress) at(n int, format string, args ...any) {
	text := fmt.Sprintf("round %d of %d: %s", n, p.total, fmt.Sprintf(format, args...))
	switch {
	case p.terminal && n == p.total:
		fmt.Fprintf(os.Stderr, "\r\033[K%s\n", text)
	case p.terminal:
		fmt.Fprintf(os.Stderr, "\r\033[K%s", text)
	case n == p.total || n%max(1, p.total/10) == 0:
		fmt.Fprintln(os.Stderr, text)
	}
}
