// Command crash runs the real process, ebb dev with SQLite and JetStream on the disk, and takes it away in the midst of orders:
//
//	go run ./test/crash kills -rounds 200 -orders 10000
//	go run ./test/crash power -rounds 20 -orders 60
//
// kills sends SIGKILL at random moments, also while the process is still recovering from the one before. power forgets what was
// not synced when the power went. Then every acknowledged order must be there and have ended, nothing may be charged twice, and
// all sums over the stores must be right. A run prints its seed; -seed makes the same draws again, though not the same moments.
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

// options are what a run is asked for.
type options struct {
	rounds, orders int
	seed           uint64
	random         *rand.Rand
	dir            string // of the data; it is removed when nothing was wrong
	binary         string
}

func run(ctx context.Context, args []string) error {
	kinds := map[string]func(context.Context, *options) (fmt.Stringer, error){
		"kills": func(ctx context.Context, o *options) (fmt.Stringer, error) { return kills(ctx, o) },
		"power": func(ctx context.Context, o *options) (fmt.Stringer, error) { return power(ctx, o) },
	}
	if len(args) == 0 || kinds[args[0]] == nil {
		return errors.New("say what shall happen: kills or power")
	}
	o := &options{}
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 200, "how often the process is taken away")
	f.IntVar(&o.orders, "orders", 10000, "how many orders are placed meanwhile")
	f.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "what the random draws begin with")
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
		return errors.New("there must be a round and an order at least")
	}
	o.random = rand.New(rand.NewPCG(o.seed, 0))
	if o.dir, err = os.MkdirTemp("", "ebb-crash-"); err != nil {
		return err
	}
	o.binary, err = shop.Build(o.dir)
	return err
}

// environment makes slow cards quick and has the outboxes swept often: what was left in one by a crash is published
// when its function wakes up next, and at the latest by the sweep.
var environment = []string{"EBB_PAYMENTS_SLOW=200ms", "EBB_CLOCK_SWEEP=2s"}

// process is one with its data in a directory of that name.
func (o *options) process(name string) (*shop.Process, error) {
	addr, err := shop.FreeAddress()
	return &shop.Process{Binary: o.binary, Addr: addr, Data: filepath.Join(o.dir, name),
		Args: []string{"--idle", "100ms"}, Env: environment}, err
}

// between is a random time.
func (o *options) between(least, most time.Duration) time.Duration {
	return least + time.Duration(o.random.Int64N(int64(most-least)))
}

// audited makes an error of what does not hold.
func audited(faults []string, books *shop.Books) error {
	if books.DeadLetters > 0 {
		faults = append(faults, fmt.Sprintf("there are %d dead letters", books.DeadLetters))
	}
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("%d invariants do not hold:\n%s", len(faults), strings.Join(faults, "\n"))
}

// progress shows how far a run is: on a terminal all the time, elsewhere ten times.
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
