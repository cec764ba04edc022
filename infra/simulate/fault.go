package simulate

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Kind is one way in which the world is not what a program hopes for.
type Kind string

// The kinds of faults. Each strikes one function, at the first opportunity after its time.
const (
	CrashBeforeCommit Kind = "crash before commit" // the process stops, and the commit is not made
	CrashAfterCommit  Kind = "crash after commit"  // the process stops, and what it emitted is not published
	CrashAfterPublish Kind = "crash after publish" // the process stops, and what it did is not acknowledged
	Crash             Kind = "crash"               // all its processes stop at once, whatever they do
	Drop              Kind = "drop"                // it is dropped in good order when it is idle, as one that scales to zero
	Scale             Kind = "scale"               // it has several instances for a while
	Twin              Kind = "twin"                // a delivery goes to two instances at once
	Duplicate         Kind = "duplicate"           // an event comes once more
	Delay             Kind = "delay"               // an event comes late, and those after it wait
	Reorder           Kind = "reorder"             // an event comes late, and those after it do not wait
	LoseAck           Kind = "lose ack"            // the broker does not hear that an event was handled
	LoseAnswer        Kind = "lose answer"         // the client does not hear what was answered
	Conflict          Kind = "conflict"            // commits lose a race
	StoreError        Kind = "store error"         // the store is not there, and does nothing
	StoreErrorAfter   Kind = "store error after"   // a commit is made, and the store says that it was not
	BrokerError       Kind = "broker error"        // the broker is not there, and takes nothing
	BrokerErrorPart   Kind = "broker error part"   // the broker takes the first of several events and fails
	BrokerErrorAfter  Kind = "broker error after"  // the broker takes the events, and says that it did not
	RemoteError       Kind = "remote error"        // the other service is not there, and does nothing
	RemoteErrorAfter  Kind = "remote error after"  // the other service does it, and does not answer
	RemoteSlow        Kind = "remote slow"         // the other service takes long, perhaps longer than anybody waits
	Slow              Kind = "slow"                // a call of the store takes long, perhaps longer than anybody waits
	Jump              Kind = "jump"                // time leaps forward for everyone, as after a machine has slept
	Skew              Kind = "skew"                // the function's clock is wrong from now on
	Ticks             Kind = "ticks"               // the host's tick comes from two hosts at once
	Deploy            Kind = "deploy"              // the next version takes half of the calls, and after a while all
	Poison            Kind = "poison"              // an event that no handler can take
)

// Kinds is every kind of fault.
func Kinds() []Kind {
	return []Kind{CrashBeforeCommit, CrashAfterCommit, CrashAfterPublish, Crash, Drop, Scale, Twin, Duplicate, Delay, Reorder,
		LoseAck, LoseAnswer, Conflict, StoreError, StoreErrorAfter, BrokerError, BrokerErrorPart, BrokerErrorAfter,
		RemoteError, RemoteErrorAfter, RemoteSlow, Slow, Jump, Skew, Ticks, Deploy, Poison}
}

// Fault is one planned fault.
type Fault struct {
	Kind     Kind
	Function string        // "": everyone
	At       time.Duration // when it may strike, from the end of the setup
	For      time.Duration // how late, how long or how far, where the kind has such a thing
	Times    int           // how often in a row, or how many, where the kind has such a thing
}

// String is the fault in words.
func (f Fault) String() string {
	s := fmt.Sprintf("%s at %s", f.Kind, f.At.Round(time.Millisecond))
	if f.Function != "" {
		s = f.Function + ": " + s
	}
	if f.For != 0 {
		s += " for " + f.For.String()
	}
	if f.Times > 1 {
		s += fmt.Sprintf(" ×%d", f.Times)
	}
	return s
}

// Faults are bounded so that no event needs more attempts than the kit's triggers have: what an operator would
// have to mend is no finding.
const (
	latest  = 8 * time.Second
	slowest = 45 * time.Second // longer than triggers wait
	wrong   = 90 * time.Second // of a clock
	leap    = 3 * time.Minute
)

// plan draws the faults of a run.
func (w *World) plan(r *rand.Rand) []Fault {
	most := w.sys.Most
	if most < 0 || len(w.sys.Faults) == 0 {
		return nil
	}
	n := r.IntN(most + 1)
	if r.IntN(4) == 0 {
		n = r.IntN(min(most, 3) + 1)
	}
	faults := make([]Fault, 0, n)
	for range n {
		f := Fault{Kind: w.sys.Faults[r.IntN(len(w.sys.Faults))], At: time.Duration(r.Int64N(int64(w.sys.Horizon)))}
		target, length, times := r.IntN(1<<20), r.Float64(), r.IntN(1<<20)
		targets := w.targets(f.Kind)
		if len(targets) == 0 {
			continue
		}
		f.Function = targets[target%len(targets)]
		f.measure(length*length, times)
		faults = append(faults, f)
	}
	slices.SortStableFunc(faults, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
	return faults
}

// measure says how long and how often, by a number from 0 to 1 and one of any size.
func (f *Fault) measure(length float64, times int) {
	up := func(most time.Duration) time.Duration {
		return time.Duration(length * float64(most)).Round(time.Millisecond)
	}
	switch f.Kind {
	case Duplicate, Delay, Reorder:
		f.For = up(latest)
	case RemoteSlow, Slow:
		f.For = up(slowest)
	case Scale:
		f.For, f.Times = up(time.Minute), 2+times%2
	case Jump:
		f.For = up(leap)
	case Skew:
		f.For = up(wrong)
		if times%2 == 0 {
			f.For = -f.For
		}
	case Conflict:
		f.Times = []int{1, 1, 2, 3, 12}[times%5]
	case StoreError, BrokerError, RemoteError:
		f.Times = 1 + times%3
	}
}

// targets are the functions that a fault of the kind can strike.
func (w *World) targets(k Kind) []string {
	if k == Jump {
		return []string{""}
	}
	var names []string
	for _, s := range w.slots {
		ok := s.stateful
		switch k {
		case Twin, Duplicate, Delay, Reorder, LoseAck:
			ok = s.trigger != nil
		case LoseAnswer:
			ok = len(s.manifest.Routes) > 0
		case BrokerError, BrokerErrorPart, BrokerErrorAfter, CrashAfterPublish, CrashAfterCommit:
			ok = len(s.manifest.Emits) > 0 || s.manifest.Ticks
		case RemoteError, RemoteErrorAfter, RemoteSlow:
			ok = slices.Contains(w.scenario.Remotes, s.name)
		case Ticks:
			ok = s.manifest.Ticks
		case Deploy:
			ok = s.capability.Next != nil
		case Poison:
			ok = len(s.poisonable()) > 0
		}
		if ok {
			names = append(names, s.name)
		}
	}
	return names
}

// strike lets a fault loose: it does what it does, or waits for its opportunity.
func (w *World) strike(f Fault) {
	s := w.byName[f.Function]
	switch f.Kind {
	case Jump:
		w.struck(f, "time leaps by %s", f.For)
		w.now += f.For
	case Skew:
		w.struck(f, "the clock of %s is off by %s", s.name, f.For)
		s.skew = f.For
	case Crash:
		if len(s.all) > 0 {
			w.struck(f, "%s crashes", s.name)
		}
		s.killAll()
	case Drop:
		s.drop(f)
	case Scale:
		w.struck(f, "%s runs in %d instances", s.name, f.Times)
		s.want = f.Times
		w.after(f.For, func() { s.want = 1 })
	case Deploy:
		s.deploy(f)
	case Poison:
		s.poison(f)
	default:
		s.armed = append(s.armed, &armed{Fault: f, left: max(f.Times, 1)})
	}
}

// armed is a fault that waits for its opportunity.
type armed struct {
	Fault
	left int
}

// hit takes a fault of the kind that waits for the function, if there is one.
func (s *slot) hit(k Kind) (Fault, bool) {
	if len(s.armed) == 0 {
		return Fault{}, false
	}
	for i, a := range s.armed {
		if a.Kind != k {
			continue
		}
		if a.left--; a.left == 0 {
			s.armed = slices.Delete(s.armed, i, i+1)
		}
		return a.Fault, true
	}
	return Fault{}, false
}
