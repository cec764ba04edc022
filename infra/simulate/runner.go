package simulate

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Runner runs many seeds on all cores.
type Runner struct {
	System     System
	First      uint64 // the first seed
	Seeds      int
	Workers    int                       // 0: one per core
	Around     func(run func())          // calls run for a seed, concurrently, as inside a synctest bubble; nil: directly
	Every      time.Duration             // between two calls of OnProgress; 0: never
	OnProgress func(Progress)            // gets the progress; one call at a time
	Enough     func(failed *Report) bool // reports whether a failure ends the run, concurrently; nil: the first does
}

// Progress sums up the seeds that a Runner has run so far.
type Progress struct {
	Done, Seeds, Failed           int
	Events, Deliveries, Instances int
	Counts                        map[string]int // the scenarios' own figures
	Injected                      map[Kind]int
	Took                          time.Duration // real time

	Timers, Fired   int // timers that functions set, and those that went off
	Sagas           int // runs in which a function stored the progress of a saga
	Expired, Undone int // steps of sagas whose deadline passed, and those whose undo was sent
}

// Warnings returns what no run came to, so that the runs prove nothing about it: a timer that goes off, a step that
// expires, an undo. It returns nil for a system that has neither timers nor sagas.
func (p Progress) Warnings() []string {
	var all []string
	if p.Timers > 0 && p.Fired == 0 {
		all = append(all, fmt.Sprintf("%d timers were set and none ever went off", p.Timers))
	}
	if p.Sagas > 0 && p.Expired == 0 {
		all = append(all, fmt.Sprintf("there are sagas, and in %d seeds no step ever expired", p.Done))
	}
	if p.Sagas > 0 && p.Undone == 0 {
		all = append(all, fmt.Sprintf("there are sagas, and in %d seeds no undo ever ran", p.Done))
	}
	return all
}

// String describes the progress in one line.
func (p Progress) String() string {
	text := fmt.Sprintf("%d of %d seeds, %d failed, %d events", p.Done, p.Seeds, p.Failed, p.Events)
	for _, what := range slices.Sorted(maps.Keys(p.Counts)) {
		text += fmt.Sprintf(", %d %s", p.Counts[what], what)
		if p.Took > 0 {
			text += fmt.Sprintf(" (%.0f/s)", float64(p.Counts[what])/p.Took.Seconds())
		}
	}
	if p.Timers > 0 {
		text += fmt.Sprintf(", %d timers set, %d went off", p.Timers, p.Fired)
	}
	if p.Sagas > 0 {
		text += fmt.Sprintf(", %d steps expired, %d undos ran", p.Expired, p.Undone)
	}
	return text + " in " + p.Took.Round(10*time.Millisecond).String()
}

// Run runs the seeds and returns the progress and the reports that have violations, by seed and not shortened. It ends
// early when ctx does.
func (r Runner) Run(ctx context.Context) (Progress, []*Report) {
	if r.Workers == 0 {
		r.Workers = runtime.GOMAXPROCS(0)
	}
	if r.Around == nil {
		r.Around = func(run func()) { run() }
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := collector{runner: r, began: time.Now(), stop: cancel}
	c.p = Progress{Seeds: r.Seeds, Counts: map[string]int{}, Injected: map[Kind]int{}}
	c.reported = c.began
	seeds := make(chan uint64)
	var workers sync.WaitGroup
	for range r.Workers {
		workers.Go(func() {
			for seed := range seeds {
				var report *Report
				r.Around(func() { report = Run(r.System, seed) })
				c.take(report)
			}
		})
	}
	for n := range r.Seeds {
		if ctx.Err() != nil {
			break
		}
		seeds <- r.First + uint64(n)
	}
	close(seeds)
	workers.Wait()
	c.p.Took = time.Since(c.began)
	slices.SortFunc(c.failed, func(a, b *Report) int { return cmp.Compare(a.Seed, b.Seed) })
	return c.p, c.failed
}

type collector struct {
	runner Runner
	began  time.Time
	stop   context.CancelFunc

	mu       sync.Mutex
	p        Progress
	failed   []*Report
	reported time.Time
}

func (c *collector) take(r *Report) {
	enough := !r.OK() && (c.runner.Enough == nil || c.runner.Enough(r))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.p.Done++
	c.p.Events += r.Events
	c.p.Deliveries += r.Deliveries
	c.p.Instances += r.Instances
	c.p.Timers += r.Timers
	c.p.Fired += r.Fired
	c.p.Expired += r.Expired
	c.p.Undone += r.Undone
	if r.Sagas {
		c.p.Sagas++
	}
	for _, f := range r.Injected {
		c.p.Injected[f.Kind]++
	}
	for name, n := range r.Counts {
		c.p.Counts[name] += n
	}
	if !r.OK() {
		c.p.Failed++
		c.failed = append(c.failed, r)
	}
	if enough {
		c.stop()
	}
	if c.runner.Every > 0 && c.runner.OnProgress != nil && time.Since(c.reported) >= c.runner.Every {
		c.reported = time.Now()
		c.p.Took = c.reported.Sub(c.began)
		c.runner.OnProgress(c.p)
	}
}

// TB is the part of testing.TB that Test needs.
type TB interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
}

// Test runs the seeds 1 to seeds and fails t with the shortest trace of the first seed that has a violation. It logs
// the warnings of the run.
func Test(t TB, sys System, seeds int) {
	t.Helper()
	p, failed := Runner{System: sys, First: 1, Seeds: seeds}.Run(context.Background())
	t.Logf("%s", p)
	for _, warning := range p.Warnings() {
		t.Logf("WARNING: %s: more seeds, more actions or faults of more kinds are needed", warning)
	}
	for _, f := range failed {
		t.Errorf("%s", Shrink(sys, f.Seed))
		return
	}
}
