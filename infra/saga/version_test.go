package saga

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
)

func send(typ event.Type[orderData]) *Command[order] {
	return Send(typ, func(o order) orderData { return orderData{OrderID: o.ID} })
}

// pack is a step that no saga had before.
var pack = Step[order]{
	Name: "pack", Deadline: 5 * time.Second, Command: send(types.pack), Done: types.packed,
	Undo: send(types.unpack), Undone: types.unpacked,
}

// renamed returns the steps with another name for one.
func renamed(all []Step[order], from, to string) []Step[order] {
	for i := range all {
		if all[i].Name == from {
			all[i].Name = to
		}
	}
	return all
}

// changes are the ways in which the steps of the next version differ.
var changes = map[string][]Step[order]{
	"appended":        append(steps(), pack),
	"inserted first":  append([]Step[order]{pack}, steps()...),
	"inserted middle": slices.Insert(steps(), 2, pack),
	"removed":         slices.Delete(steps(), 1, 2),
	"renamed":         renamed(steps(), "note", "tell"),
	"reordered":       {steps()[1], steps()[0], steps()[2], steps()[3]},
}

// A saga goes on with the steps that it began with, whatever its declaration has become, when it is at any step.
func TestVersions(t *testing.T) {
	answers := []string{"inventory.reserved", "notifications.sent", "payments.captured", "inventory.shipped"}
	asks := []string{"note", "capture", "ship", ""}
	for name, next := range changes {
		for at := range answers {
			m := newMachine(t, Declaration[order]{Steps: steps()})
			m.begin(t)
			for i, a := range answers {
				if i == at {
					m.declare(Declaration[order]{Version: 2, Steps: next, Earlier: map[int][]Step[order]{1: steps()}})
				}
				if got := m.hear(t, answerOf(a, m.lastSent())); got != asks[i] {
					t.Errorf("%s at step %d: %s asks for %q, want %q", name, at, a, got, asks[i])
				}
			}
			if m.state.Saga.Status != Completed || len(m.told) > 0 {
				t.Errorf("%s at step %d: %s, %s, %v", name, at, m.state.Saga.Status, m.states(), m.told)
			}
		}
		m := newMachine(t, Declaration[order]{Version: 2, Steps: next, Earlier: map[int][]Step[order]{1: steps()}})
		if m.begin(t); len(m.state.Saga.Steps) != len(next) || m.state.Saga.Version != 2 {
			t.Errorf("%s: a new saga runs on %s", name, m.states())
		}
	}
}

// Undoing too goes over the steps that the saga began with, and a deadline moves it.
func TestVersionsUndo(t *testing.T) {
	for name, next := range changes {
		m := newMachine(t, Declaration[order]{Steps: steps()})
		m.begin(t)
		m.hear(t, answerOf("inventory.reserved", m.lastSent()))
		m.hear(t, answerOf("notifications.sent", m.lastSent()))
		m.declare(Declaration[order]{Version: 2, Steps: next, Earlier: map[int][]Step[order]{1: steps()}})
		got := []string{
			m.pass(t, 30*time.Second), m.hear(t, answerOf("payments.refunded", m.lastSent())),
			m.hear(t, answerOf("inventory.released", m.lastSent())),
		}
		if !slices.Equal(got, []string{"refund", "release", ""}) || m.state.Saga.Status != Reversed {
			t.Errorf("%s: sent %q and is %s", name, got, m.state.Saga.Status)
		}
	}
}

// A saga whose steps were changed without a new version goes on by the names of its steps. One that comes to a step
// that is gone is stuck, is looked at again less and less often, and can be operated.
func TestUnknownStep(t *testing.T) {
	for name, next := range changes {
		m := newMachine(t, Declaration[order]{Steps: steps()})
		m.begin(t)
		m.declare(Declaration[order]{Steps: next})
		got := m.hear(t, answerOf("inventory.reserved", m.lastSent()))
		if name != "removed" && name != "renamed" {
			if got != "note" || len(m.told) > 0 {
				t.Errorf("%s: asks for %q, told %v", name, got, m.told)
			}
			continue
		}
		if got != "" || len(m.told) != 1 || m.told[0].Step != "note" || m.state.Saga.Stuck == nil {
			t.Fatalf("%s: asks for %q, told %v", name, got, m.told)
		}
		for range 20 {
			if due := m.state.Saga.nextDue(); !due.After(m.now) {
				t.Fatalf("%s: a timer in the past: %s", name, due)
			}
			m.pass(t, m.state.Saga.nextDue().Sub(m.now))
		}
		if wait := m.state.Saga.nextDue().Sub(m.now); len(m.told) != 1 || wait != time.Hour {
			t.Errorf("%s: told %d times, and it looks again in %s", name, len(m.told), wait)
		}
		skipped := m.must(t, func(r *run[order]) error { return r.skip("note", "nobody reads notes") })
		if skipped != "capture" || m.state.Saga.Stuck != nil || m.states() != "done skipped running todo" {
			t.Errorf("%s: skipping asks for %q: %s", name, skipped, m.states())
		}
	}
}

// The declaration of an unknown step may come back: the saga goes on without an operator.
func TestKnownAgain(t *testing.T) {
	m := newMachine(t, Declaration[order]{Steps: steps()})
	m.begin(t)
	m.declare(Declaration[order]{Steps: changes["removed"]})
	m.hear(t, answerOf("inventory.reserved", ""))
	m.declare(Declaration[order]{Steps: steps()})
	if got := m.pass(t, time.Hour); got != "note" || m.state.Saga.Stuck != nil {
		t.Errorf("asks for %q: %+v", got, m.state.Saga)
	}
}

// An instance of the build before leaves a saga of the next version alone, whether or not it knows its steps by name: a
// step may mean something else there. An event that it took for the answer to nothing would be lost.
func TestOlderBuild(t *testing.T) {
	otherMeaning := steps()
	otherMeaning[1].Command, otherMeaning[1].Done = send(types.pack), types.packed
	for name, next := range map[string][]Step[order]{
		"a step that it does not know": changes["renamed"], "a step with another meaning": otherMeaning,
	} {
		m := newMachine(t, Declaration[order]{Version: 2, Steps: next, Earlier: map[int][]Step[order]{1: steps()}})
		m.begin(t)
		refuse := func(what string, act func(r *run[order]) error) {
			m.declare(Declaration[order]{Steps: steps()})
			defer m.declare(Declaration[order]{Version: 2, Steps: next, Earlier: map[int][]Step[order]{1: steps()}})
			if sent, err := m.do(act); err == nil {
				t.Errorf("%s: %s asks for %q: %s", name, what, sent, m.states())
			}
		}
		hear := func(eventType string) func(r *run[order]) error {
			e := answerOf(eventType, m.lastSent())
			return func(r *run[order]) error { r.answered(reply{e, e.Type(), e.Data()}); return r.err }
		}
		refuse("the answer before", hear("inventory.reserved"))
		refuse("a cancel", func(r *run[order]) error { r.cancel("x", ""); return r.err })
		refuse("a deadline", func(r *run[order]) error { r.expired(r.now.Add(time.Hour)); return r.err })
		refuse("a retry", (*run[order]).retry)
		refuse("a skip", func(r *run[order]) error { return r.skip("reserve", "x") })
		m.hear(t, answerOf("inventory.reserved", m.lastSent()))
		refuse("the answer", hear("notifications.sent"))
		m.hear(t, answerOf("notifications.sent", m.lastSent()))
		m.hear(t, answerOf("depot.packed", m.lastSent()))
		if m.states() != "done done running todo" {
			t.Errorf("%s: a newer instance goes on: %s", name, m.states())
		}
	}
	m := newMachine(t, Declaration[order]{Version: 2, Steps: steps()})
	m.begin(t)
	m.declare(Declaration[order]{Steps: steps()})
	m.must(t, func(r *run[order]) error { return r.end(Reversed, "rolled back", "ended") })
}

// A saga that the kit of before stored, with one awaited step and no version, goes on.
func TestYesterday(t *testing.T) {
	for name, next := range changes {
		var in Instance
		err := json.Unmarshal([]byte(`{"id":"o1","timer":"t1","saga":{"status":"undoing","step":"capture",
			"due":"2026-01-02T03:05:00Z","again":2,"reason":"step capture timed out","steps":[
			{"name":"reserve","state":"done"},{"name":"note","state":"done"},
			{"name":"capture","state":"undoing","undoing_at":"2026-01-02T03:04:00Z"},
			{"name":"ship","state":"todo"}]}}`), &in)
		if err != nil {
			t.Fatal(err)
		}
		m := newMachine(t, Declaration[order]{Version: 2, Steps: next, Earlier: map[int][]Step[order]{1: steps()}})
		m.state = order{in}
		got := []string{
			m.pass(t, 54*time.Second), m.pass(t, time.Second), m.hear(t, answerOf("payments.refunded", "c-yesterday")),
			m.hear(t, answerOf("inventory.released", m.lastSent())),
		}
		if !slices.Equal(got, []string{"-", "refund", "release", ""}) || m.states() != "undone undone undone todo" {
			t.Errorf("%s: sent %q: %s", name, got, m.states())
		}
	}
}

// Two steps have the same answers. One that is heard twice, in whatever form, advances one step.
func TestSharedAnswer(t *testing.T) {
	again := steps()[0]
	again.Name = "reserve-again"
	shared := []Step[order]{steps()[0], again, steps()[1]}
	for name, second := range map[string]string{"the same command": "c1", "another cause": "x", "no cause": ""} {
		m := newMachine(t, Declaration[order]{Steps: shared})
		m.begin(t)
		if got := m.hear(t, answerOf("inventory.reserved", "c1")); got != "reserve" {
			t.Fatalf("asks for %q", got)
		}
		if got := m.hear(t, answerOf("inventory.reserved", second)); got != "-" {
			t.Errorf("%s: asks for %q", name, got)
		}
		if got := m.hear(t, answerOf("inventory.reserved", "c2")); got != "note" {
			t.Errorf("%s: its own answer asks for %q", name, got)
		}
		m.cancel(t)
		m.hear(t, answerOf("inventory.released", "c4"))
		if got := m.hear(t, answerOf("inventory.released", "c4")); got != "-" {
			t.Errorf("%s: the second undo asks for %q", name, got)
		}
		if m.hear(t, answerOf("inventory.released", "c5")); m.states() != "undone undone undone" {
			t.Errorf("%s: %s", name, m.states())
		}
	}
}

// An undo that is not answered is told once, after five repetitions, and goes on less often. An answer ends that.
func TestStuckUndo(t *testing.T) {
	m := newMachine(t, Declaration[order]{Steps: steps()})
	m.begin(t)
	m.cancel(t)
	var waits []time.Duration
	for range 16 {
		wait := m.state.Saga.nextDue().Sub(m.now)
		if wait <= 0 {
			t.Fatalf("a timer in the past: %s", wait)
		}
		waits = append(waits, wait)
		if n := len(waits) - 1; (len(m.told) > 0) != (n >= 5) {
			t.Errorf("after %d repetitions told %v", n, m.told)
		}
		if got := m.pass(t, wait); got != "release" {
			t.Fatalf("asks for %q", got)
		}
	}
	if len(m.told) != 1 || m.told[0].Step != "reserve" || m.told[0].Reason != "its undo is not answered" ||
		waits[0] != 10*time.Second || waits[4] != 10*time.Second || waits[6] <= waits[5] || waits[15] != time.Hour {
		t.Errorf("told %v, waits %v", m.told, waits)
	}
	m.hear(t, answerOf("inventory.released", m.lastSent()))
	if m.state.Saga.Status != Reversed || m.state.Saga.Stuck != nil {
		t.Errorf("%+v", m.state.Saga)
	}
}

// An operator retries, skips and ends.
func TestOperated(t *testing.T) {
	stuck := func() *machine {
		m := newMachine(t, Declaration[order]{Steps: steps()})
		m.begin(t)
		m.cancel(t)
		for range 6 {
			m.pass(t, m.state.Saga.nextDue().Sub(m.now))
		}
		if m.state.Saga.Stuck == nil {
			t.Fatal("it is not stuck")
		}
		return m
	}
	m := stuck()
	if got := m.must(t, (*run[order]).retry); got != "release" || m.state.Saga.Stuck != nil || m.state.Saga.Again != 0 {
		t.Errorf("retrying asks for %q: %+v", got, m.state.Saga)
	}
	m = stuck()
	m.must(t, func(r *run[order]) error { return r.skip("reserve", "released by hand") })
	if s := m.state.Saga; s.Status != Reversed || s.Steps[0].State != Undone || s.Steps[0].Skipped != "released by hand" {
		t.Errorf("skipped: %+v", s)
	}
	m = stuck()
	m.must(t, func(r *run[order]) error { return r.end(Reversed, "we give up", "ended") })
	if s := m.state.Saga; s.Status != Reversed || s.Reason != "the customer says so" ||
		s.Steps[0].Skipped != "we give up" {
		t.Errorf("ended: %+v", s)
	}
	for name, act := range map[string]func(r *run[order]) error{
		"retry": (*run[order]).retry,
		"skip":  func(r *run[order]) error { return r.skip("reserve", "x") },
		"end":   func(r *run[order]) error { return r.end(Completed, "x", "") },
		"step":  func(r *run[order]) error { return r.resolve("reserve", Done, "", "", nil) },
	} {
		if _, err := m.do(act); err == nil {
			t.Errorf("%s of a saga that has ended was accepted", name)
		}
	}
}

func (m *machine) lastSent() string { return m.asked[len(m.asked)-1].ID() }

// A failure that answers the command of a step that was done before fails no later step.
func TestFailureOfAnother(t *testing.T) {
	again := steps()[0]
	again.Name = "reserve-again"
	m := newMachine(t, Declaration[order]{Steps: []Step[order]{steps()[0], again}})
	m.begin(t)
	m.hear(t, answerOf("inventory.reserved", "c1"))
	if got := m.hear(t, answerOf("inventory.refused", "c1")); got != "-" {
		t.Errorf("asks for %q: %s", got, m.states())
	}
	if m.hear(t, answerOf("inventory.refused", "elsewhere")); m.state.Saga.Status != Undoing {
		t.Errorf("a failure whose cause is not known: %s", m.states())
	}
}

// A step that means something else in the next version keeps its meaning for sagas of the version before.
func TestSameNameOtherMeaning(t *testing.T) {
	next := steps()
	next[1].Command, next[1].Done = send(types.pack), types.packed
	m := newMachine(t, Declaration[order]{Steps: steps()})
	m.begin(t)
	m.declare(Declaration[order]{Version: 2, Steps: next, Earlier: map[int][]Step[order]{1: steps()}})
	if got := m.hear(t, answerOf("inventory.reserved", "c1")); got != "note" {
		t.Errorf("asks for %q", got)
	}
}
