package delivery

import (
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/broker/breaker"
)

// Item is an event that has not finished, with what its source needs to know it again.
type Item[R any] struct {
	Ref R // the source's; the engine does not look at it

	event     event.Event // a copy, so that it does not keep the slice alive that it came in
	key       *keyQueue[R]
	attempts  int
	begun     bool           // the last attempt began in a process that has died
	suspect   bool           // it may be what kills the process; see SetHistory
	refused   *broker.Result // set when no handler may have it
	notBefore time.Time
	dead      *event.Event  // set when all attempts have failed: what the dead-letter sink is to take
	outside   breaker.Event // failures that were not the event's
	atSink    int           // attempts at the dead-letter sink
	done      bool

	own  keyQueue[R] // the queue of an event without a key
	self [1]*Item[R]
}

// NewItem makes an item of an event, which must not change afterwards.
func NewItem[R any](e *event.Event, ref R) *Item[R] { return &Item[R]{Ref: ref, event: *e} }

// Event returns the item's event. It must not be changed.
func (i *Item[R]) Event() *event.Event { return &i.event }

// DeadLettered reports whether the attempts at the event have failed. A source asks for events that have finished.
func (i *Item[R]) DeadLettered() bool { return i.dead != nil }

// SetHistory sets what is known of an event that came to another process before: its attempts, and how many processes
// have died while it was unfinished. It is called before the event is added to an engine.
func (i *Item[R]) SetHistory(tries Tries, deaths int) {
	i.attempts, i.begun, i.suspect = tries.Attempts, tries.Begun, deaths >= suspectDeaths
}

// Refuse makes the event a dead letter that no handler gets, with the result as the reason. It is called before the
// event is added to an engine.
func (i *Item[R]) Refuse(r broker.Result) { i.refused = &r }

func (i *Item[R]) size() int { return 512 + len(i.event.DataEncoded) }

type keyState uint8

const (
	keyIdle   keyState = iota // without events
	keyReady                  // in Engine.ready, Engine.suspects or Engine.dead
	keyHeld                   // in a call
	keyParked                 // waits for the time of a retry
)

// keyQueue holds the events of one partition key, in order. It is in exactly one state, so that finding work never
// searches.
type keyQueue[R any] struct {
	key   string
	state keyState
	items []*Item[R]
	taken int          // how many of the first items are in the call that holds the queue
	timer *time.Timer  // ends keyParked
	link  *keyQueue[R] // the next one in a list
}

// list is a first-in first-out list of key queues.
type list[R any] struct {
	first, last *keyQueue[R]
	len         int
}

func (l *list[R]) push(k *keyQueue[R]) {
	k.link = nil
	if l.last == nil {
		l.first = k
	} else {
		l.last.link = k
	}
	l.last = k
	l.len++
}

func (l *list[R]) pop() *keyQueue[R] {
	k := l.first
	if k == nil {
		return nil
	}
	if l.first = k.link; l.first == nil {
		l.last = nil
	}
	k.link = nil
	l.len--
	return k
}
