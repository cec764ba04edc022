package simulation

import (
	"context"
	"slices"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/simulate"
)

// arrivals notes when each event was first delivered to the archive, and when the archive first acknowledged it.
type arrivals struct {
	delivered, acknowledged map[string]time.Time
}

func newArrivals() *arrivals {
	return &arrivals{delivered: map[string]time.Time{}, acknowledged: map[string]time.Time{}}
}

func nameOf(e ce.Event) string { return e.Source() + " " + e.ID() }

// observe wraps the event handler of the archive.
func (a *arrivals) observe(sim *simulate.Simulation, next broker.Handler) broker.Handler {
	note := func(at map[string]time.Time, e ce.Event) {
		if _, known := at[nameOf(e)]; !known {
			at[nameOf(e)] = sim.Now()
		}
	}
	return func(ctx context.Context, batch []ce.Event) []broker.Result {
		for _, e := range batch {
			note(a.delivered, e)
		}
		results := next(ctx, batch)
		for i, r := range results {
			again := batch[i].Extensions()[event.ReplayTo] != nil || batch[i].Extensions()[broker.ErrorDest] != nil
			if r.OK() && !again { // a dead letter or a replayed event is not stored in the log
				note(a.acknowledged, batch[i])
			}
		}
		return results
	}
}

// observe wraps the event handler of a function.
func (s *run) observe(function string, next broker.Handler) broker.Handler {
	if function != "archive" {
		return next
	}
	return s.arrivals.observe(s.sim, next)
}

// check checks that the archive lists an event that it has acknowledged before every event that was delivered to it
// only later, whatever the clocks of its instances are. So it keeps the order of each partition key.
func (a *arrivals) check(sim *simulate.Simulation, log []ce.Event) {
	var first time.Time // of the acknowledgements of the events that come later in the log
	var whose string
	for i := len(log) - 1; i >= 0; i-- {
		name := nameOf(log[i])
		if at, ok := a.delivered[name]; ok && !first.IsZero() && first.Before(at) {
			sim.Violated("the archive lists an event before one that it had stored earlier: %s", name+" before "+whose)
			return
		}
		if at, ok := a.acknowledged[name]; ok && (first.IsZero() || at.Before(first)) {
			first, whose = at, name
		}
	}
}

// checkReplays checks that a replay up to the present contains every event of its types that the archive keeps,
// whenever that was stored, if it happened before the replay was requested or a little later, as clocks differ.
func (s *run) checkReplays(sim *simulate.Simulation, log []ce.Event) {
	type replay struct {
		to    string
		types []string
		asked time.Time
	}
	replays, ended, replayed := map[string]replay{}, map[string]bool{}, map[string]bool{}
	for _, e := range sim.Published() {
		switch e.Type() {
		case event.ArchiveReplay.Name():
			if cmd, err := event.ArchiveReplay.Decode(e); err == nil && cmd.Cursor == "" && cmd.Until.IsZero() {
				replays[cmd.ReplayID] = replay{cmd.To, cmd.Types, e.Time()}
			}
		case event.ArchiveReplayed.Name():
			ended[e.Subject()] = true
		}
		if id, ok := e.Extensions()[event.Replay].(string); ok {
			replayed[id+" "+nameOf(e)] = true
		}
	}
	for id, r := range replays {
		for _, e := range log {
			part := len(r.types) == 0 || slices.Contains(r.types, e.Type())
			if !ended[id] || !part || e.Source() == poison || e.Type() == event.ArchiveReplay.Name() ||
				e.Time().After(r.asked.Add(4*time.Minute)) {
				continue
			}
			if !replayed[id+" "+nameOf(e)] {
				sim.Violated("a replay lacks an event that the archive keeps: %s", e.Type()+" "+nameOf(e))
			}
		}
	}
}
