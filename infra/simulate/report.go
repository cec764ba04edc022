package simulate

import (
	"fmt"
	"strings"
	"time"
)

// Report is what came of a run.
type Report struct {
	Seed       uint64
	Violations []Violation
	Faults     []Fault // as planned, or what was left of the plan
	Struck     []Fault // those that found an opportunity, in order, each time
	Actions    []string
	Story      []string // what happened, if it was asked for
	Digest     uint64   // the same for runs in which the same happened

	Events, Deliveries, Instances int
	Counts                        map[string]int // the scenario's own figures
	Took                          time.Duration  // in the world's time

	Timers, Fired   int  // timers that functions set, and those that went off
	Sagas           bool // a function stored the progress of a saga
	Expired, Undone int  // steps of sagas whose deadline passed, and those whose undo was sent

	planned, actions int
}

func (r *Report) of(w *World) *Report {
	r.Violations, r.Struck, r.Story, r.Digest = w.violations, w.strikes, w.story, w.digest
	r.Events, r.Deliveries, r.Instances = w.events, w.deliveries, w.instances
	r.Counts, r.Took = w.counts, w.now-w.start
	r.Timers, r.Fired = len(w.waits.timers), w.waits.fired
	r.Sagas, r.Expired, r.Undone = w.waits.sagas, len(w.waits.expired), len(w.waits.undone)
	return r
}

// OK reports whether every promise was kept.
func (r *Report) OK() bool { return len(r.Violations) == 0 }

// String tells the whole of it: what was promised and not kept, and the story if there is one.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d violations, %d actions, %d faults of which struck %d\n", r.Seed, len(r.Violations), len(r.Actions), len(r.Faults), len(r.Struck))
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
	if len(r.Story) > 0 {
		b.WriteString("the story:\n")
	}
	for _, line := range r.Story {
		b.WriteString(line + "\n")
	}
	return b.String()
}
