package simulate

import (
	"context"
	"encoding/json"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/store"
)

const (
	// handover is how long an instance has at least to publish what it has committed before another one may do it.
	handover = time.Second

	// relayAge is the age from which on an event that is left may be published by any instance, so that two that look at
	// the same moment may both publish it.
	relayAge = 10 * time.Second
)

// ledger records which events were committed to outboxes and which were published, by whom. It reports events that are
// published again although nothing explains it, and messages that are answered wrongly for what was committed and
// published.
type ledger struct {
	last     map[string]*publication // the last attempt to publish an event
	accepted map[string]bool         // events that the broker has
	emitted  map[string][]string     // events that were committed, by the function and the event that caused them
	slow     bool                    // a fault has held up a process or turned its clock
}

type publication struct {
	by       *instance
	at       time.Duration
	answered bool
	ok       bool
}

func newLedger() ledger {
	return ledger{last: map[string]*publication{}, accepted: map[string]bool{}, emitted: map[string][]string{}}
}

func identity(source, id string) string { return source + " " + id }

// publishing notes that an instance begins to publish events. The func it returns notes the answer.
func (sim *Simulation) publishing(i *instance, es []ce.Event) (answered func(err error)) {
	begun := make([]*publication, 0, len(es))
	for _, e := range es {
		if text(e, event.ReplayTo) != "" {
			continue // it is a past event on purpose
		}
		key := identity(e.Source(), e.ID())
		if was := sim.ledger.last[key]; was != nil && sim.unexplained(i, was, e.Time()) {
			sim.Violated("%s publishes an event again that was published or is being published: %s",
				i.s.name, e.Type()+" "+e.ID())
		}
		p := &publication{by: i, at: sim.now}
		begun, sim.ledger.last[key] = append(begun, p), p
	}
	return func(err error) {
		for _, p := range begun {
			p.answered, p.ok = true, err == nil
		}
	}
}

// unexplained reports whether no fault explains that the instance publishes once more what was published before. An
// instance knows what it has published itself. Another one must leave it the time of the handover, unless the event is
// old.
func (sim *Simulation) unexplained(i *instance, was *publication, at time.Time) bool {
	switch {
	case was.by.state == gone || was.answered && !was.ok:
		return false
	case was.by == i:
		return true
	}
	return !sim.ledger.slow && sim.now < was.at+handover && sim.Now().Sub(at) < relayAge
}

// committed notes the events that a commit has put into an outbox, and that the current task has committed a change.
func (l *ledger) committed(t *task, function string, b store.Batch) {
	for _, m := range b.Mutations {
		if m.Collection == outboxName && m.Version != 1 {
			continue // an entry is removed or marked
		}
		if t != nil {
			t.committed = true
		}
		if m.Collection != outboxName {
			continue
		}
		var entry struct {
			Events []struct {
				ID, Source  string
				CausationID string `json:"causationid"`
			} `json:"events"`
		}
		if json.Unmarshal(m.Data, &entry) != nil {
			continue
		}
		for _, e := range entry.Events {
			if e.CausationID != "" {
				cause := function + " " + e.CausationID
				l.emitted[cause] = append(l.emitted[cause], identity(e.Source, e.ID))
			}
		}
	}
}

// acknowledged checks that the events are published which the handler of an event has emitted.
func (sim *Simulation) acknowledged(function string, e ce.Event) {
	for _, key := range sim.ledger.emitted[function+" "+e.ID()] {
		if !sim.ledger.accepted[key] {
			sim.Violated("%s acknowledges an event before the events of its handler are published: %s",
				function, e.Type()+" "+e.ID())
		}
	}
}

// callContext is the context of a delivery. It ends in simulated time.
type callContext struct {
	context.Context
	sim      *Simulation
	end      time.Duration
	deadline time.Time // by the clock of the function
}

func (i *instance) callContext(limit time.Duration) context.Context {
	if limit <= 0 {
		return context.Background()
	}
	return callContext{context.Background(), i.s.sim, i.s.sim.now + limit, i.now().Add(limit)}
}

// Deadline implements context.Context.
func (c callContext) Deadline() (time.Time, bool) { return c.deadline, true }

// Err implements context.Context.
func (c callContext) Err() error {
	if c.sim.now >= c.end {
		return context.DeadlineExceeded
	}
	return nil
}

// badEntryID is the id of the entry that BadEntry puts into an outbox.
const badEntryID = "00-bad"

// badEntry puts an old entry into the outbox of the function that no version of the kit can read.
func (s *supervisor) badEntry(f Fault) {
	ctx := context.Background()
	db, err := s.sim.opener(ctx, s.name, s.schema)
	if err != nil {
		return
	}
	m := store.Mutation{
		Key: store.Key{Collection: outboxName, ID: badEntryID}, Version: 1,
		Data: []byte(`{"at":"2025-01-01T00:00:00Z","events":[{"specversion":"9"}]}`),
	}
	if db.Commit(ctx, store.Batch{Mutations: []store.Mutation{m}}) == nil {
		s.sim.injected(f, "the outbox of %s has an entry that cannot be read", s.name)
	}
}
