package simulate

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Kind is a kind of fault.
type Kind string

// The kinds of faults. Each is injected into one function, at the first opportunity after its time.
const (
	CrashBeforeCommit Kind = "crash before commit" // the process stops, and the commit is not made
	CrashAfterCommit  Kind = "crash after commit"  // the process stops, and what it emitted is not published
	CrashAfterPublish Kind = "crash after publish" // the process stops, and what it did is not acknowledged
	Crash             Kind = "crash"               // all processes of the function stop at once
	Drop              Kind = "drop"                // the idle function is stopped gracefully, as when it scales to zero
	Scale             Kind = "scale"               // the function runs in several instances for a while
	Twin              Kind = "twin"                // a delivery goes to two instances at once
	Duplicate         Kind = "duplicate"           // an event is delivered once more
	Delay             Kind = "delay"               // an event is delivered late, and later ones of its key wait
	Reorder           Kind = "reorder"             // an event is delivered late, and later ones do not wait
	LoseAck           Kind = "lose ack"            // the broker loses the answer to a delivery
	LoseAnswer        Kind = "lose answer"         // the client loses the answer to a request
	Conflict          Kind = "conflict"            // commits lose a race
	StoreError        Kind = "store error"         // the store fails and does nothing
	StoreErrorAfter   Kind = "store error after"   // the store commits and reports a failure
	BrokerError       Kind = "broker error"        // the broker fails and accepts nothing
	BrokerErrorPart   Kind = "broker error part"   // the broker accepts the first of several events and fails
	BrokerErrorAfter  Kind = "broker error after"  // the broker accepts the events and reports a failure
	RemoteError       Kind = "remote error"        // the other service fails and does nothing
	RemoteErrorAfter  Kind = "remote error after"  // the other service does its work and does not answer
	RemoteSlow        Kind = "remote slow"         // the other service takes long, up to more than the trigger waits
	Slow              Kind = "slow"                // a call of the store takes long, up to more than the trigger waits
	Jump              Kind = "jump"                // time leaps forward for all functions, as after a suspended machine
	Skew              Kind = "skew"                // the clock of the function is off until the end of the faults
	Ticks             Kind = "ticks"               // two hosts send a tick at once
	Deploy            Kind = "deploy"              // the next version gets half of the calls, and later all of them
	Poison            Kind = "poison"              // an event arrives that no handler accepts
	Deadly            Kind = "deadly poison"       // an event arrives that kills the process that handles it
	StoreOutage       Kind = "store outage"        // the store is away for longer than the retries last
	BrokerOutage      Kind = "broker outage"       // the broker accepts nothing for longer than the retries last
	RemoteOutage      Kind = "remote outage"       // the other service is away for longer than the retries last
	FunctionOutage    Kind = "function outage"     // the function does not start for longer than the retries last
	BadEntry          Kind = "bad entry"           // the outbox has an entry that cannot be read
	Stranger          Kind = "stranger"            // an event of an unknown sender arrives whose data is not of its type
)

// Kinds returns every kind of fault.
func Kinds() []Kind {
	return []Kind{
		CrashBeforeCommit,
		CrashAfterCommit,
		CrashAfterPublish,
		Crash,
		Drop,
		Scale,
		Twin,
		Duplicate,
		Delay,
		Reorder,
		LoseAck,
		LoseAnswer,
		Conflict,
		StoreError,
		StoreErrorAfter,
		BrokerError,
		BrokerErrorPart,
		BrokerErrorAfter,
		RemoteError,
		RemoteErrorAfter,
		RemoteSlow,
		Slow,
		Jump,
		Skew,
		Ticks,
		Deploy,
		Poison,
		Deadly,
		StoreOutage,
		BrokerOutage,
		RemoteOutage,
		FunctionOutage,
		BadEntry,
		Stranger,
	}
}

// Fault is a planned or injected fault.
type Fault struct {
	Kind     Kind
	Function string        // "": all
	At       time.Duration // the earliest time, from the end of the setup
	For      time.Duration // how late, how long or how far, for kinds that have a duration
	Times    int           // how often in a row or how many, for kinds that have a number
	// Deadlines, unless 0, replaces For by a multiple of the longest deadline of the functions. For applies if they
	// have none.
	Deadlines float64
}

// String describes the fault in a few words.
func (f Fault) String() string {
	s := fmt.Sprintf("%s at %s", f.Kind, f.At.Round(time.Millisecond))
	if f.Function != "" {
		s = f.Function + ": " + s
	}
	if f.For != 0 {
		s += " for " + f.For.String()
	}
	if f.Deadlines != 0 {
		s += fmt.Sprintf(", or %.2f of the longest deadline", f.Deadlines)
	}
	if f.Times > 1 {
		s += fmt.Sprintf(" ×%d", f.Times)
	}
	return s
}

// The bounds of faults. They keep an event from needing more attempts than the kit's triggers have: a dead letter that
// the faults alone explain is no finding.
const (
	maxDelay = 8 * time.Second
	maxSlow  = 45 * time.Second // longer than the timeout of triggers
	maxSkew  = 90 * time.Second // of a function's clock
	maxJump  = 3 * time.Minute
)

// The bounds of outages: they last longer than the retries of a trigger with the default policy. While the store or the
// function is away, nothing is handled, so it may last. An outage that leaves a part of the events to be handled is
// shorter than the patience of the simulated triggers.
const (
	minOutage     = 100 * time.Second
	maxOutage     = 8 * time.Minute
	maxPartOutage = 4 * time.Minute
	patience      = 5 * time.Minute
)

// plan draws the faults of a run.
func (sim *Simulation) plan(r *rand.Rand) []Fault {
	most := sim.sys.MaxFaults
	if most < 0 || len(sim.sys.Faults) == 0 {
		return nil
	}
	n := r.IntN(most + 1)
	if r.IntN(4) == 0 {
		n = r.IntN(min(most, 3) + 1)
	}
	faults := make([]Fault, 0, n)
	for range n {
		f := Fault{Kind: sim.sys.Faults[r.IntN(len(sim.sys.Faults))], At: time.Duration(r.Int64N(int64(sim.sys.Horizon)))}
		target, length, times := r.IntN(1<<20), r.Float64(), r.IntN(1<<20)
		targets := sim.targets(f.Kind)
		if len(targets) == 0 {
			continue
		}
		f.Function = targets[target%len(targets)]
		f.measure(length*length, times)
		faults = append(faults, f)
	}
	if len(faults) > 0 && r.IntN(2) == 0 {
		faults = append(faults, sim.overtaking(r)...)
	}
	slices.SortStableFunc(faults, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
	return faults
}

// overtaking draws a fault that holds a command back until about the time at which its sender gives up, so that the
// undo may overtake it. It returns none if no function consumes commands or the system's kinds do not include such a
// fault.
func (sim *Simulation) overtaking(r *rand.Rand) []Fault {
	f := Fault{Kind: Reorder, At: time.Duration(r.Int64N(int64(sim.sys.Horizon)))}
	target, length, delay := r.IntN(1<<20), r.Float64(), r.IntN(4) == 0
	if delay && slices.Contains(sim.sys.Faults, Delay) {
		f.Kind = Delay
	}
	var names []string
	for _, s := range sim.supervisors {
		if s.commands {
			names = append(names, s.name)
		}
	}
	if len(names) == 0 || !slices.Contains(sim.sys.Faults, f.Kind) {
		return nil
	}
	f.Function = names[target%len(names)]
	f.measure(length*length, 0)
	return []Fault{f}
}

// measure sets the duration and the number of the fault from a number in [0, 1) and one of any size.
func (f *Fault) measure(length float64, times int) {
	up := func(most time.Duration) time.Duration {
		return time.Duration(length * float64(most)).Round(time.Millisecond)
	}
	switch f.Kind {
	case Duplicate, Delay, Reorder:
		f.For = up(maxDelay)
		if times%2 == 0 {
			f.Deadlines = 0.9 + 1.1*length // around the longest deadline and beyond, near it more often
		}
	case RemoteSlow, Slow:
		f.For = up(maxSlow)
	case StoreOutage, FunctionOutage:
		f.For = minOutage + up(maxOutage-minOutage)
	case BrokerOutage, RemoteOutage:
		f.For = minOutage + up(maxPartOutage-minOutage)
	case Scale:
		f.For, f.Times = up(time.Minute), 2+times%2
	case Jump:
		f.For = up(maxJump)
	case Skew:
		f.For = up(maxSkew)
		if times%2 == 0 {
			f.For = -f.For
		}
	case Conflict:
		f.Times = []int{1, 1, 2, 3, 12}[times%5]
	case StoreError, BrokerError, RemoteError:
		f.Times = 1 + times%3
	}
}

// targets returns the functions that a fault of the kind can be injected into.
func (sim *Simulation) targets(k Kind) []string {
	if k == Jump || k == Stranger {
		return []string{""}
	}
	var names []string
	for _, s := range sim.supervisors {
		ok := s.stateful
		switch k {
		case Twin, LoseAck:
			ok = s.trigger != nil
		case Duplicate, Delay, Reorder:
			ok = s.consumes
		case LoseAnswer:
			ok = len(s.manifest.Routes) > 0
		case FunctionOutage:
			ok = true
		case BrokerError, BrokerOutage, BrokerErrorPart, BrokerErrorAfter, CrashAfterPublish, CrashAfterCommit:
			ok = len(s.manifest.Emits) > 0 || s.manifest.Ticks
		case RemoteError, RemoteErrorAfter, RemoteSlow, RemoteOutage:
			ok = slices.Contains(sim.scenario.Remotes, s.name)
		case Ticks:
			ok = s.manifest.Ticks
		case Deploy:
			ok = s.function.Next != nil
		case BadEntry:
			ok = s.consumesSweep()
		case Poison, Deadly:
			ok = len(s.poisonable()) > 0
		}
		if ok {
			names = append(names, s.name)
		}
	}
	return names
}

// inject applies a fault, or arms it for its first opportunity.
func (sim *Simulation) inject(f Fault) {
	s := sim.byName[f.Function]
	switch f.Kind {
	case Jump:
		sim.ledger.slow = true
		sim.injected(f, "time leaps by %s", f.For)
		sim.now += f.For
	case Skew:
		sim.ledger.slow = true
		sim.injected(f, "the clock of %s is off by %s", s.name, f.For)
		s.skew = f.For
	case Crash:
		if len(s.all) > 0 {
			sim.injected(f, "%s crashes", s.name)
		}
		s.killAll()
	case Drop:
		s.drop(f)
	case Scale:
		sim.injected(f, "%s runs in %d instances", s.name, f.Times)
		s.want = f.Times
		sim.after(f.For, func() { s.want = 1 })
	case Deploy:
		s.deploy(f)
	case Poison, Deadly:
		s.poison(f)
	case StoreOutage, BrokerOutage, RemoteOutage, FunctionOutage:
		s.beAway(f)
	case BadEntry:
		s.badEntry(f)
	case Stranger:
		sim.stranger(f)
	default:
		s.armed = append(s.armed, &armed{Fault: f, left: max(f.Times, 1)})
	}
}

// armed is a fault that waits for an opportunity.
type armed struct {
	Fault
	left int
}

// hit consumes an armed fault of the kind and returns it; ok is false if none is armed.
func (s *supervisor) hit(k Kind) (f Fault, ok bool) {
	return s.hitIf(k, func(Fault) bool { return true })
}

// hitIf does as hit does for the faults that fit.
func (s *supervisor) hitIf(k Kind, fits func(Fault) bool) (f Fault, ok bool) {
	for i, a := range s.armed {
		if a.Kind != k || !fits(a.Fault) {
			continue
		}
		if a.left--; a.left == 0 {
			s.armed = slices.Delete(s.armed, i, i+1)
		}
		return a.Fault, true
	}
	return Fault{}, false
}
