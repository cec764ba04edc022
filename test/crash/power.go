package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ebb-dev/ebb/test/shop"
)

// errNoStrace is the error when strace, which records the writes, is not installed.
var errNoStrace = errors.New("strace is not installed, which records what is written and synced; apt-get install " +
	"strace")

// outage is the result of a run of power cuts.
type outage struct {
	rounds, orders, calls int
	acknowledged          int // the orders acknowledged before the cut, summed over the rounds
	took                  time.Duration
}

func (r *outage) String() string {
	return fmt.Sprintf("%d power cuts in a recording of %d orders and %d writes, syncs and renames; %d orders were "+
		"acknowledged before their cut, none of them is lost, "+
		"nothing is charged twice; %s", r.rounds, r.orders, r.calls, r.acknowledged, r.took.Round(time.Second))
}

// power records one run of the process under strace. In each round it makes a directory as a power cut at a random
// moment could leave it, starts the process with it and audits the stores.
func power(ctx context.Context, o *options) (*outage, error) {
	begin := time.Now()
	if _, err := exec.LookPath("strace"); err != nil {
		return nil, errNoStrace
	}
	rec, err := record(ctx, o)
	if err != nil {
		return nil, err
	}
	r := &outage{rounds: o.rounds, orders: o.orders, calls: len(rec.trace.ops)}
	shown := newProgress(o.rounds)
	for round := range o.rounds {
		cut := rec.from + o.random.Float64()*(rec.until-rec.from)
		n, err := rec.outage(ctx, o, fmt.Sprint("cut", round), cut)
		if err != nil {
			return nil, fmt.Errorf("round %d, power cut %.6f s after the first order: %w", round, cut-rec.from, err)
		}
		r.acknowledged += n
		shown.at(round+1, "%d orders were acknowledged before this cut", n)
	}
	r.took = time.Since(begin)
	return r, nil
}

// recording is a recorded run.
type recording struct {
	trace       *trace
	spree       *shop.Spree
	orders      int
	from, until float64            // the time in which orders were placed
	answered    map[string]float64 // the time of each acknowledgement, by order id
}

// record runs the process under strace while orders are placed, and stops it normally, so that the trace is complete.
func record(ctx context.Context, o *options) (*recording, error) {
	p, err := o.process("recorded")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(p.Data, 0o700); err != nil {
		return nil, err
	}
	file := filepath.Join(o.dir, "strace")
	p.Under = []string{"strace", "-f", "--seccomp-bpf", "-ttt", "-xx", "-s", "33554432", "-e", "signal=none",
		"-e", "trace=" + strings.Join(traced, ","), "-o", file}
	start, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if _, err := p.Start(start); err != nil {
		return nil, err
	}
	defer signalTraced(file, syscall.SIGKILL)
	rec := &recording{answered: map[string]float64{}, orders: o.orders}
	if rec.spree, err = shop.NewSpree(ctx, p.URL()); err != nil {
		return nil, err
	}
	rec.from = now()
	if err := rec.place(ctx, o.orders); err != nil {
		return nil, err
	}
	if _, err := rec.spree.AwaitEnds(ctx); err != nil {
		return nil, err
	}
	rec.until = now()
	if err := signalTraced(file, syscall.SIGTERM); err != nil {
		return nil, err
	}
	<-p.Ended()
	if rec.trace, err = readTrace(file, p.Data); err != nil {
		return nil, err
	}
	return rec, rec.trace.check()
}

// place places the orders, eight at a time, and records when each is acknowledged.
func (rec *recording) place(ctx context.Context, orders int) error {
	numbers := make(chan int, orders)
	for n := range orders {
		numbers <- n
	}
	close(numbers)
	var mu sync.Mutex
	var failed error
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for n := range numbers {
				err := rec.spree.Place(ctx, n)
				at := now()
				mu.Lock()
				failed = errors.Join(failed, err)
				for _, id := range rec.spree.Acknowledged() {
					if rec.answered[id] == 0 {
						rec.answered[id] = at // for another worker's order this may be too late, which only weakens the check
					}
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return failed
}

func now() float64 { return float64(time.Now().UnixMicro()) / 1e6 }

// signalTraced sends a signal to the process under strace. Strace exits with it.
func signalTraced(file string, s syscall.Signal) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	var pid int
	if _, err := fmt.Fscan(f, &pid); err != nil {
		return fmt.Errorf("the output of strace is empty: %w", err)
	}
	if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// outage makes a directory as a power cut at the time cut could leave it, repeats all requests, and audits the stores.
// It returns how many orders were acknowledged before the cut.
func (rec *recording) outage(ctx context.Context, o *options, name string, cut float64) (int, error) {
	p, err := o.process(name)
	if err != nil {
		return 0, err
	}
	// The draws of a round do not depend on earlier rounds.
	random := rand.New(rand.NewPCG(o.seed, uint64(cut*1e6)))
	if err := rec.trace.leave(p.Data, cut, random); err != nil {
		return 0, err
	}
	var before []string
	for id, at := range rec.answered {
		if at < cut {
			before = append(before, id)
		}
	}
	start, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if _, err := p.Start(start); err != nil {
		return 0, err
	}
	defer p.Kill()
	s := rec.spree.At(p.URL(), before)
	for n := range rec.orders {
		if err := s.Place(ctx, n); err != nil {
			return 0, fmt.Errorf("order %d: %w\n%s", n, err, p.Output())
		}
	}
	if _, err := s.AwaitEnds(start); err != nil {
		return 0, fmt.Errorf("%w\n%s", err, p.Output())
	}
	books, violations, err := s.StopAndAudit(ctx, p)
	if err != nil {
		return 0, err
	}
	if len(s.Acknowledged()) != rec.orders {
		violations = append(violations, fmt.Sprintf("%d requests made %d orders", rec.orders, len(s.Acknowledged())))
	}
	if err := audited(append(violations, doubled(books, rec.orders)...), books); err != nil {
		return 0, fmt.Errorf("%w\n%s", err, p.Output())
	}
	return len(before), os.RemoveAll(p.Data)
}
