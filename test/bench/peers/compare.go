package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ebb-dev/ebb/test/bench/load"
)

// comparison is one kind of work that several contenders do. The first contender is Ebb.
type comparison struct {
	title, how string
	contenders []contender
}

type contender struct {
	name, version, note string
	absent              string // why it is not measured; empty: it is measured
	open                func(context.Context) (*opened, error)
}

// opened is a contender that is ready. run measures it for the duration.
type opened struct {
	run   func(context.Context, time.Duration) (sample, error)
	close func()
}

// sample is the result of one turn.
type sample struct {
	rate     float64 // a second
	p50, p99 time.Duration
}

func sampleOf(sorted []time.Duration, took time.Duration) sample {
	return sample{rate: float64(len(sorted)) / took.Seconds(), p50: load.Quantile(sorted, 0.5),
		p99: load.Quantile(sorted, 0.99)}
}

type result struct {
	contender
	samples []sample
	ratios  []float64 // the rate over Ebb's, of each round in which both were measured
}

type section struct {
	comparison
	results []*result
}

type table struct {
	rounds   int
	duration time.Duration
	sections []section
}

const warmUp = time.Second

// compare opens the contenders and measures them in turns. It records why a contender was not measured.
func (t *table) compare(ctx context.Context, c comparison, rounds int, d time.Duration) error {
	fmt.Fprintf(os.Stderr, "\n%s\n", c.title)
	all := make([]*result, len(c.contenders))
	running := make([]*opened, len(c.contenders))
	defer func() {
		for _, o := range running {
			if o != nil && o.close != nil {
				o.close()
			}
		}
	}()
	for i, who := range c.contenders {
		all[i] = &result{contender: who}
		if who.absent != "" {
			continue
		}
		o, err := who.open(ctx)
		if err != nil {
			all[i].absent = "does not start: " + short(err)
			continue
		}
		running[i] = o
		if _, err := o.run(ctx, min(d, warmUp)); err != nil {
			all[i].absent = "fails: " + short(err)
		}
	}
	for round := range rounds {
		this := make([]sample, len(all))
		for turn := range all {
			i := (turn + round) % len(all) // no contender is always the first
			if err := ctx.Err(); err != nil {
				return err
			}
			if all[i].absent != "" {
				continue
			}
			s, err := running[i].run(ctx, d)
			if err != nil {
				all[i].absent = "fails: " + short(err)
				continue
			}
			this[i] = s
			all[i].samples = append(all[i].samples, s)
			fmt.Fprintf(os.Stderr, "  %d/%d  %s: %.0f/s\n", round+1, rounds, all[i].name, s.rate)
		}
		for i := range all {
			if this[0].rate > 0 && this[i].rate > 0 {
				all[i].ratios = append(all[i].ratios, this[i].rate/this[0].rate)
			}
		}
	}
	for _, r := range all {
		if r.absent != "" {
			fmt.Fprintf(os.Stderr, "  %s: %s\n", r.name, r.absent)
		}
	}
	t.sections = append(t.sections, section{c, all})
	return nil
}

func short(err error) string {
	s := strings.Join(strings.Fields(err.Error()), " ")
	if len(s) > 300 {
		s = s[:300] + " …"
	}
	return s
}

func (t *table) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %s/%s, %d processors, %s; %d rounds of %s, load generator on the same machine\n",
		time.Now().UTC().Format(time.RFC3339), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), t.rounds,
		t.duration)
	fmt.Fprintln(w, "Medians over the rounds, min–max in brackets. A ratio is the contender's rate over ours in the "+
		"same round: above 1 it did more than ours.")
	for _, s := range t.sections {
		fmt.Fprintf(w, "\n%s\n%s\n", s.title, s.how)
		tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tab, "  who\tversion\ta second\tratio to ours\tp50\tp99\tnote")
		for _, r := range s.results {
			fmt.Fprintln(tab, "  "+strings.Join(r.cells(), "\t"))
		}
		tab.Flush()
	}
}

func (r *result) cells() []string {
	if r.absent != "" {
		return []string{r.name, or(r.version, "-"), "not measured", "-", "-", "-", r.absent}
	}
	var rates []float64
	var p50, p99 []time.Duration
	for _, s := range r.samples {
		rates, p50, p99 = append(rates, s.rate), append(p50, s.p50), append(p99, s.p99)
	}
	return []string{r.name, or(r.version, "-"), spread(rates, "%.0f"), spread(r.ratios, "%.2f"), ms(median(p50)),
		ms(median(p99)), r.note}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func spread(values []float64, format string) string {
	if len(values) == 0 {
		return "-"
	}
	return fmt.Sprintf(format+" ["+format+"–"+format+"]", median(values), slices.Min(values), slices.Max(values))
}

// median is the middle value, or the mean of the two in the middle.
func median[T float64 | time.Duration](values []T) T {
	if len(values) == 0 {
		return 0
	}
	s := slices.Clone(values)
	slices.Sort(s)
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func ms(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000)
}

func (t *table) write(dir string) error {
	fmt.Println()
	t.print(os.Stdout)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, time.Now().UTC().Format("20060102T150405")+"-peers.txt"))
	if err != nil {
		return err
	}
	defer f.Close()
	t.print(f)
	fmt.Println("\nwritten to", f.Name())
	return f.Close()
}
