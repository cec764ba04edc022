package timemachine

import (
	"regexp"
	"slices"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"

	"github.com/ebb-dev/ebb/infra/event"
)

// machinery are the types that are not compared: when they come depends on times and on what else runs, and what they
// bring about is compared.
var machinery = []string{
	event.ClockSchedule.Name(), event.ClockCancel.Name(), event.ClockSwept.Name(), event.CallDue.Name(),
	event.FlagsAnnounce.Name(), event.ActRecorded.Name(), event.APIKeyUsed.Name(),
}

func isMachinery(eventType string) bool { return slices.Contains(machinery, eventType) }

// names holds which id of the run stands for which recorded id. Each stands for one.
type names struct{ now, recorded map[string]string }

func newNames() names { return names{map[string]string{}, map[string]string{}} }

// same reports whether two ids stand for each other. Two that stand for nothing yet do from then on, if both are UUIDs.
func (n names) same(recorded, now string) bool {
	was, known := n.recorded[now]
	is, used := n.now[recorded]
	if known || used {
		return was == recorded && is == now
	}
	if recorded != now && (!isUUID(recorded) || !isUUID(now)) {
		return false
	}
	n.recorded[now], n.now[recorded] = recorded, now
	return true
}

func isUUID(s string) bool { return len(s) == 36 && uuid.Validate(s) == nil }

var word = regexp.MustCompile(`[A-Za-z0-9_-]+`)

// translate replaces each recorded id in a text by that of the run.
func (n names) translate(text string) string {
	return word.ReplaceAllStringFunc(text, func(id string) string {
		if now, known := n.now[id]; known {
			return now
		}
		return id
	})
}

// back returns the recorded id for one of the run.
func (n names) back(id string) string {
	if recorded, known := n.recorded[id]; known {
		return recorded
	}
	return id
}

// original replaces each id of the run in a text by the recorded one.
func (n names) original(text string) string { return word.ReplaceAllStringFunc(text, n.back) }

// place is where events of the run stand for recorded ones.
type place struct{ correlation, source, eventType string }

func placeOf(e ce.Event) place { return place{correlationOf(e), e.Source(), e.Type()} }

// tracker pairs the events of a run with the recorded ones, as they are published.
type tracker struct {
	recorded []ce.Event
	names    names
	waiting  map[place][]int  // recorded events without a pair
	pairs    map[int]ce.Event // by the index of the recorded event
	index    map[string]int   // the recorded event of an event of the run, by source and id
	order    []paired         // what was published, in its order
	bySubj   map[string][]int // recorded events that are compared or given, by subject
	next     map[string]int   // the first of bySubj that was not published
	done     map[int]bool     // recorded events that were published or stand for one
	corr     map[string]bool  // the recorded correlations
	read     int              // of what was published
	fired    map[string]bool  // events of timers, recorded and of the run, by source and id
	ignored  map[string]bool  // events that are no part of the comparison, by source and id
}

// paired is an event of the run; recorded is -1 for one that is new.
type paired struct {
	now      ce.Event
	recorded int
}

func newTracker(recorded []ce.Event, given, others map[int]bool, scheduled map[string]bool) *tracker {
	t := &tracker{
		recorded: recorded, names: newNames(), waiting: map[place][]int{}, pairs: map[int]ce.Event{},
		index: map[string]int{}, bySubj: map[string][]int{}, next: map[string]int{}, done: map[int]bool{},
		corr: map[string]bool{}, ignored: map[string]bool{}, fired: map[string]bool{},
	}
	for i, e := range recorded {
		t.corr[correlationOf(e)] = t.corr[correlationOf(e)] || !others[i]
		if isMachinery(e.Type()) {
			continue
		}
		if !scheduled[e.ID()] { // how often a timer goes off depends on times
			t.bySubj[e.Subject()] = append(t.bySubj[e.Subject()], i)
		}
		t.fired[identity(e)] = scheduled[e.ID()]
		if !given[i] {
			t.waiting[placeOf(e)] = append(t.waiting[placeOf(e)], i)
		}
	}
	return t
}

// identity returns the source and the id of an event, which no other event has together.
func identity(e ce.Event) string { return e.Source() + " " + e.ID() }

// gave notes that the run has published a recorded event itself, with its recorded id.
func (t *tracker) gave(i int) {
	e := t.recorded[i]
	t.ignored[identity(e)], t.done[i] = true, true
	t.index[identity(e)] = i
	t.names.same(e.ID(), e.ID())
	t.names.same(e.Subject(), e.Subject())
}

// update takes in what was published since the last call.
func (t *tracker) update(published []ce.Event) {
	for ; t.read < len(published); t.read++ {
		e := published[t.read]
		key := identity(e)
		_, again := t.index[key]
		if again || t.ignored[key] || isMachinery(e.Type()) || !t.corr[correlationOf(e)] {
			continue
		}
		i := t.pair(e)
		t.index[key] = i
		t.order = append(t.order, paired{e, i})
		if i >= 0 {
			t.pairs[i], t.done[i] = e, true
			t.names.same(t.recorded[i].ID(), e.ID())
		}
	}
}

// pair returns the recorded event that an event stands for: the first one of its place about the same entity, or else
// about one that has no name in the run yet. -1: there is none.
func (t *tracker) pair(e ce.Event) int {
	at := placeOf(e)
	waiting := t.waiting[at]
	about := t.names.back(e.Subject())
	n := slices.IndexFunc(waiting, func(i int) bool { return t.recorded[i].Subject() == about })
	if n < 0 && isUUID(e.Subject()) {
		n = slices.IndexFunc(waiting, func(i int) bool {
			was := t.recorded[i].Subject()
			_, named := t.names.now[was]
			_, used := t.names.recorded[e.Subject()]
			return !named && !used && isUUID(was)
		})
	}
	if n < 0 {
		return -1
	}
	i := waiting[n]
	t.names.same(t.recorded[i].Subject(), e.Subject())
	t.waiting[at] = slices.Delete(waiting, n, n+1)
	return i
}

// cameBefore reports whether all recorded events about an entity that came before the i-th were published.
func (t *tracker) cameBefore(i int, subject string) bool {
	list, n := t.bySubj[subject], t.next[subject]
	for n < len(list) && t.done[list[n]] {
		n++
	}
	t.next[subject] = n
	return n == len(list) || list[n] >= i
}
