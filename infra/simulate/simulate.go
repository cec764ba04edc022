// Package simulate runs a whole system of functions on one thread, in simulated time, with faults that a seed plans,
// and reports which of the system's promises were broken.
//
//	func TestTickets(t *testing.T) {
//		simulate.Test(t, simulate.System{Begin: func(_ *simulate.Simulation, r *rand.Rand) *simulate.Scenario {
//			return &simulate.Scenario{
//				Functions: []simulate.Function{{Name: "tickets", New: tickets.New}, {Name: "clock", New: clock.New}},
//				Actions:   []simulate.Action{{At: time.Duration(r.Int64N(1e9)), What: "ada opens a ticket", Do: open}},
//				Check:     check, // calls Simulation.Violated where a promise is broken
//			}
//		}}, 200) // seeds
//	}
//
// A run depends on its System and its seed only: the same seed does the same again, in any process. The store, the
// broker, other services, the clock and the ids of a function all belong to the simulation, and at each call of one of
// them another request or delivery may go on. Handlers run as coroutines, so two instances of a function can meet
// between a read and a commit, but never run at the same instant. After a crash every call of a port fails: the
// instance has lost its memory, and what it committed stays.
//
// The simulation has functions that start on their first request or event and are stopped; a broker with Knative's
// semantics (retries, backoff, timeouts, dead letters, at least once, in the order of the partition key unless a
// fault changes it), which waits outages out as the local brokers do (package breaker); the ticks of the host; clients
// that repeat unanswered requests; and deploys.
//
// Faults last up to and beyond the longest deadline of the functions, which is the longest timer they set: an undo can
// overtake its command. A system at rest is watched until nothing in it waits any more (System.Rest).
//
// Every run checks that each published event was handled or dead-lettered, that only poisonous events were
// dead-lettered, that no handler answered 500, that no event is published again without a fault that explains it, that
// a committed change is answered as done, that an event is acknowledged only when the events of its handler are
// published, that no outbox keeps an unpublished event, that inbox entries and stored responses are removed in time,
// and that each projection that the scenario names equals the one rebuilt from the events. The scenario checks the
// rest.
//
// A double of another service calls Simulation.RemoteCall with the idempotency key of each call. Then a run also checks
// that no key is used for two calls, that no call is made under two keys, and that no call is made again whose answer
// has arrived, unless a crash or a failure of the store explains that.
//
// A handler that calls its ports from its own goroutines cannot be simulated. One that waits for real time stops the
// run for as long, except inside testing/synctest. A Runner, a System and a Report may be used concurrently; a
// Simulation belongs to one run and one goroutine.
package simulate

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// System declares what to simulate. Begin is required; the zero values of the other fields mean their defaults.
type System struct {
	// Begin returns the scenario of one run. It must draw all random values from r and keep no state outside of what
	// it returns: it is called once per run, by several goroutines at once.
	Begin func(sim *Simulation, r *rand.Rand) *Scenario

	// Faults are the kinds to inject; nil: all that apply to the scenario but Deadly. A deadly event ends as a dead
	// letter only as fast as the function handles others, so it is for systems with traffic.
	Faults    []Kind
	MaxFaults int           // the most faults of one run; 0: 24, negative: none
	Horizon   time.Duration // faults are injected within this time; 0: two minutes
	Settle    time.Duration // the longest time after that to come to rest; 0: an hour
	// Rest is the shortest time for which a system at rest is watched; 0: a minute. It is watched for longer if its
	// functions wait longer: for the longest deadline and for two sweeps of the clock.
	Rest time.Duration
	// Deadline is the lower bound of the longest deadline, to which delays and reorders are scaled. The timers that
	// functions set raise it, up to a quarter of Settle; 0: the timers alone count.
	Deadline time.Duration
	Tick     time.Duration // the interval of the ticks for functions that have a tick handler; 0: a second
	Age      uint64        // every Age-th seed checks, after simulated days, that old entries are removed; 0: 16
	Epoch    time.Time     // when a run begins, before its setup; zero: 1 January 2026, 09:00 UTC
}

// Scenario declares one run: the functions, the actions from outside and the checks at the end.
type Scenario struct {
	Functions []Function
	Setup     func(sim *Simulation)      // runs before the first fault; may use Simulation.Call
	Actions   []Action                   // in any order; the shrinker leaves some out
	Settled   func(sim *Simulation) bool // reports whether the system has nothing to do; nil: as soon as it is idle
	Check     func(sim *Simulation)      // runs at rest; reports broken promises with Simulation.Violated

	// Refused reports, at rest, whether a function was right to refuse an event for good; nil: none is right, except for
	// poisonous events.
	Refused func(function string, e ce.Event) bool

	Projections []Projection                                // rebuilt and compared, after Check
	Archive     func(sim *Simulation) []ce.Event            // returns the events to rebuild from; nil: those published
	Handle      func(string, broker.Handler) broker.Handler // wraps the event handler of a function; nil: none
	Serve       func(string, http.Handler) http.Handler     // wraps the HTTP handler of a function; nil: none
	Trigger     func(broker.Trigger) broker.Trigger         // changes how a function is delivered to; nil: as declared

	// Hold returns how long the first delivery of an event to a function must still wait; the simulation calls it again
	// after that time. 0: the delivery may begin. Later events of the partition key wait behind it. Nil: none waits.
	Hold func(function string, e ce.Event) time.Duration

	Remotes []string // the functions that call Simulation.Remote
}

// Function is one function of the system.
type Function struct {
	Name string
	New  func(function.Env) (*function.Function, error)
	Next func(function.Env) (*function.Function, error) // its next version, for deploys; nil: none
	Env  function.Env                                   // its environment, without store, broker, clock and ids
}

// Action is something that happens from outside. At counts from the end of the setup.
type Action struct {
	At   time.Duration
	What string // for the trace: "ada orders 2 apples"
	Do   func(sim *Simulation)
}

// Projection names collections of a function that follow from events alone.
type Projection struct {
	Function    string
	Types       []string // of the events it is built from
	Collections []string
	// Seen returns the name and the part of a document to compare, or ok false to leave it out; nil: all of it, under
	// its id. live is false for a rebuilt document.
	Seen func(d store.Document, live bool) (name, data string, ok bool)
	// Merge returns what two documents have together to which Seen has given one name; nil: each has a name of its own.
	Merge func(data, other string) string
}

func (s System) withDefaults() System {
	if s.MaxFaults == 0 {
		s.MaxFaults = 24
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
	if s.Epoch.IsZero() {
		s.Epoch = epoch
	}
	if s.Faults == nil {
		s.Faults = slices.DeleteFunc(Kinds(), func(k Kind) bool { return k == Deadly })
	}
	return s
}
