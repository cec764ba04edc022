package simulate

import (
	"fmt"
	"strings"
	"time"
)

// Report is the result of a run.
type Report struct {
	Seed       uint64
	Violations []Violation
	Faults     []Fault // the plan, or the part of it that was kept
	Injected   []Fault // the faults that found an opportunity, in order, once for each time
	Actions    []string
	Trace      []string // what happened, of a run that keeps a trace
	Digest     uint64   // equal for runs in which the same happened

	Events, Deliveries, Instances int
	Counts                        map[string]int // the scenario's own figures
	Took                          time.Duration  // in simulated time

	Timers, Fired   int  // timers that functions set, and those that went off
	Sagas           bool // a function stored the progress of a saga
	Expired, Undone int  // steps of sagas whose deadline passed, and those whose undo was sent

	planned, actions int
}

func (r *Report) of(sim *Simulation) *Report {
	r.Violations, r.Injected, r.Trace, r.Digest = sim.violations, sim.injections, sim.trace, sim.digest
	r.Events, r.Deliveries, r.Instances = sim.events, sim.deliveries, sim.instances
	r.Counts, r.Took = sim.counts, sim.now-sim.start
	r.Timers, r.Fired = len(sim.waits.timers), sim.waits.fired
	r.Sagas, r.Expired, r.Undone = sim.waits.sagas, len(sim.waits.expired), len(sim.waits.undone)
	return r
}

// OK reports whether no promise was broken.
func (r *Report) OK() bool { return len(r.Violations) == 0 }

// String describes the run in several lines: violations, faults, actions, and the trace if it has one.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(
		&b,
		"seed %d: %d violations, %d actions, %d faults, %d injected\n",
		r.Seed,
		len(r.Violations),
		len(r.Actions),
		len(r.Faults),
		len(r.Injected),
	)
	for i, v := range r.Violations {
		if i == 10 {
			fmt.Fprintf(&b, "  and %d more\n", len(r.Violations)-i)
			break
		}
		fmt.Fprintf(&b, "  violated: %s\n", v.Text)
	}
	for _, f := range r.Faults {
		fmt.Fprintf(&b, "  fault: %s\n", f)
	}
	for _, a := range r.Actions {
		fmt.Fprintf(&b, "  action: %s\n", a)
	}
	if len(r.Trace) > 0 {
		b.WriteString("trace:\n")
	}
	for _, line := range r.Trace {
		b.WriteString(line + "\n")
	}
	return b.String()
}
