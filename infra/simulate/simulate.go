// Package simulate runs a whole system of functions on one thread, in a time of its own, with faults that a
// seed plans, and says which of the system's promises did not hold.
//
// A run is a function of its System and its seed, and of nothing else: the same seed does the same again, in any
// process and however often. Everything that functions have to do with, the store, the broker, other services, the clock
// and the ids, goes through the simulation, and at each of these calls another request or delivery may have its
// turn. Handlers run as coroutines, so two instances of a function really do meet between a read and a commit, but never
// in the same instant. A crash is a call of a port that does not come back: what the instance held in memory is gone
// and what it had committed is there.
//
// What is simulated: functions that start on their first request or event and are dropped; a broker with Knative's
// semantics (retries, backoff, timeouts, dead letters, at least once, in the order of the partition key unless a
// fault says otherwise); the ticks of the host; clients that repeat what was not answered; deploys.
//
// What a run checks by itself, whatever the system is for: every event that was published came to its end; nothing
// became a dead letter but what was made poisonous; no handler answered 500; no outbox kept an event that was not
// published; no inbox and no kept answer outlived its time; and each projection that the scenario names,
// built anew from the events, is the live one. The rest is the scenario's to check.
//
// A handler that calls its ports from goroutines of its own cannot be simulated, nor can one that waits for
// real time: inside testing/synctest such a wait costs nothing, elsewhere it stops the run for as long. A Runner, a
// System and a Report may be used concurrently; a World belongs to one run and one goroutine.
package simulate

import (
	"math/rand/v2"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// System is what is simulated. Begin is required; the zero values of the rest are sensible.
type System struct {
	// Begin makes the scenario of one run. It must draw everything that is random from r, and keep
	// nothing outside of what it returns: it is called once per run, by several goroutines at once.
	Begin func(w *World, r *rand.Rand) *Scenario

	Faults  []Kind        // what may go wrong; nil: every kind that the scenario has a use for
	Most    int           // the most faults of one run; 0: 24, negative: none
	Horizon time.Duration // faults strike within this time; 0: two minutes
	Settle  time.Duration // how long the system has after it to come to rest; 0: an hour
	Rest    time.Duration // how long it is watched when it has; 0: a minute. Longer than the slowest sweep
	Tick    time.Duration // how often functions are told the time that ask for it; 0: a second
	Age     uint64        // every so many seeds, let days pass and see that what is past its time is gone; 0: 16
}

// Scenario is one run: the functions, what is asked of them and what must then be true.
type Scenario struct {
	Capabilities []Capability
	Setup        func(w *World)      // before the first fault; may use World.Call
	Actions      []Action            // what happens, in any order; a story is shortened by leaving some out
	Settled      func(w *World) bool // whether the system has nothing more to do; nil: when the broker is empty
	Check        func(w *World)      // after the dust has settled; says what is wrong with World.Violated

	Projections []Projection                                // built anew and compared, after Check
	Archive     func(w *World) []ce.Event                   // what projections are built from; nil: what was published
	Handle      func(string, broker.Handler) broker.Handler // wraps how the events of a function are handled; nil: not
	Remotes     []string                                    // the functions that call World.Remote, for its faults
}

// Capability is one function of the system.
type Capability struct {
	Name string
	New  func(function.Env) (*function.Function, error)
	Next func(function.Env) (*function.Function, error) // its next version, for deploys; nil: there is none
	Env  function.Env                                   // what it is given beside store, broker, clock and ids
}

// Action is something that happens to the system from outside. At counts from the end of the setup.
type Action struct {
	At   time.Duration
	What string // for the story: "ada orders 2 apples"
	Do   func(w *World)
}

// Projection is data of a function that follows from events alone.
type Projection struct {
	Function    string
	Types       []string // the events it is made of
	Collections []string
	// Seen is what of a document is compared, and under which name; nil: the whole of it. ok is false for one that is
	// not. live is false for a document that was built anew.
	Seen func(d store.Document, live bool) (name, data string, ok bool)
}

func (s System) withDefaults() System {
	if s.Most == 0 {
		s.Most = 24
	}
	if s.Horizon == 0 {
		s.Horizon = 2 * time.Minute
	}
	if s.Settle == 0 {
		s.Settle = time.Hour
	}
	if s.Rest == 0 {
		s.Rest = time.Minute
	}
	if s.Tick == 0 {
		s.Tick = time.Second
	}
	if s.Age == 0 {
		s.Age = 16
	}
	if s.Faults == nil {
		s.Faults = Kinds()
	}
	return s
}
