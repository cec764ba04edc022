package delivery

import (
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/infra/broker"
)

// This file holds how attempts outlive the process, so that an event which kills it is a dead letter after its attempts
// as any other.
//
//   - Attempts that were answered cost nothing extra: the source stores them along with what it stores anyway.
//   - An attempt that was never answered, as the process died, is not counted at first, since the source cannot tell
//     which of the events in its calls was the cause, if any. A source only counts the deaths: one for each event that
//     may have been in a call.
//   - An event that was unfinished at suspectDeaths deaths is a suspect. Suspects are tried one at a time, each alone
//     in the whole process, and before the call the source stores that the attempt begins (Keeper.Mark). When the
//     process dies then, the attempt is known to have failed, and the deaths before count for that event as well. When
//     the process lives, what was stored is replaced before the next suspect has its turn.
//   - So a process that dies for other reasons makes a few deliveries slower, and no dead letters: an event is one only
//     when Retry+1 processes have died with it as the only one in a call.

// suspectDeaths is how many processes have died with an event unfinished when it becomes a suspect.
const suspectDeaths = 2

// Tries is what a source stores of the attempts at an event.
type Tries struct {
	Attempts int  // those that count
	Begun    bool // the last one was stored before it began: if this is read, the process has died in it
}

// Tried is an unfinished event with its attempts so far.
type Tried[R any] struct {
	Item *Item[R]
	Tries
}

// Keeper is what a source does for its engine. The methods are called without a lock, concurrently, and Halt waits for
// them.
type Keeper[R any] interface {
	// Finished is called with the events that are done for good: handled, taken by the dead-letter sink, or dropped.
	// Nothing is stored of their attempts any more.
	Finished([]*Item[R])

	// Tried is called with the attempts of events that were answered and have not finished. The source stores them when it
	// is convenient; those that a death loses are made again.
	Tried([]Tried[R])

	// Mark stores the attempts of a suspect before its next attempt. It returns when they survive the death of the
	// process. Finished and Tried, when they are called with that event after it, return when what Mark has stored is
	// replaced.
	Mark(it *Item[R], tries Tries) error
}

// markPause is how long a suspect waits whose attempt could not be stored.
const markPause = time.Second

// mark stores that an attempt at a suspect begins. It returns false, and ends the call, when that failed.
func (e *Engine[R]) mark(c *call[R]) bool {
	it := c.items[0]
	err := e.keeper.Mark(it, Tries{max(it.attempts, suspectDeaths) + 1, true})
	if err == nil {
		return true
	}
	e.trigger.registry.opts.Logger.Warn("the beginning of an attempt was not stored; the event waits",
		"trigger", e.trigger.Name(), "event", it.event.ID(), "error", err)
	e.record(c, []broker.Result{{Skipped: true, RetryAfter: markPause}}, 0)
	return false
}

// buryExhausted makes an event a dead letter that has used up its attempts by killing processes. One that has used them
// up by its answers, and had not reached the dead-letter sink, is tried once more, so that the reason is known.
func (e *Engine[R]) buryExhausted(it *Item[R]) {
	t := e.trigger
	if it.attempts <= t.decl.Delivery.Retry {
		return
	}
	if !it.begun {
		it.attempts = t.decl.Delivery.Retry
		return
	}
	t.registry.opts.Logger.Error("an event is given up: the process died each time while it was handled",
		"trigger", t.Name(), "event", it.event.ID(), "type", it.event.Type(), "attempts", it.attempts)
	it.bury(t, broker.Result{
		Status: http.StatusBadGateway, Message: "the process died each time while the event was handled",
	})
}

// bury makes the event one for the dead-letter sink.
func (i *Item[R]) bury(t *Trigger, r broker.Result) {
	dead := t.deadLetter(i.event, r)
	i.dead, i.suspect, i.notBefore = &dead, false, time.Time{}
}
