package saga

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
)

// branches returns reserve, then note and pack in parallel, then capture.
func branches() []Step[order] {
	all := []Step[order]{steps()[0], steps()[1], pack, steps()[2]}
	all[2].After = []string{"reserve"}
	all[3].After = []string{"note", "pack"}
	return all
}

// Parallel steps begin together, and the step after them begins when all are done. When one fails or is late the others
// are undone at once.
func TestParallel(t *testing.T) {
	m := newMachine(t, Declaration[order]{Steps: branches()})
	m.begin(t)
	got := []string{
		m.hear(t, answerOf("inventory.reserved", "c1")), m.hear(t, answerOf("depot.packed", "c3")),
		m.hear(t, answerOf("notifications.sent", "c2")), m.hear(t, answerOf("payments.declined", "c4")),
		m.hear(t, answerOf("depot.unpacked", "c5")), m.hear(t, answerOf("inventory.released", "c6")),
	}
	if want := "note pack||capture|unpack|release|"; strings.Join(got, "|") != want {
		t.Errorf("got %q, want %q", strings.Join(got, "|"), want)
	}
	if m.states() != "undone undone undone failed" {
		t.Error(m.states())
	}
	m.begin(t)
	m.asked = nil
	m.hear(t, answerOf("inventory.reserved", ""))
	if got := m.pass(t, 5*time.Second); got != "unpack" || m.states() != "done undone undoing todo" {
		t.Errorf("the deadline of one of two steps asks for %q: %s", got, m.states())
	}
}

// Steps may begin together, and the first of several steps may be parallel.
func TestAtOnce(t *testing.T) {
	all := []Step[order]{steps()[0], pack, steps()[2]}
	all[1].After, all[2].After = []string{}, []string{"reserve", "pack"}
	m := newMachine(t, Declaration[order]{Steps: all})
	if got := m.begin(t); got != "reserve pack" {
		t.Errorf("begins with %q", got)
	}
	got := m.hear(t, answerOf("depot.packed", "")) + "|" + m.hear(t, answerOf("inventory.reserved", ""))
	if got != "|capture" {
		t.Errorf("asks for %q", got)
	}
	for _, want := range []string{"[*] --> s1", "[*] --> s2", "s1 --> s3: reserved", "s2 --> s3: packed"} {
		if picture := Mermaid(all); !strings.Contains(picture, want) {
			t.Errorf("want %q in\n%s", want, picture)
		}
	}
}

// A step that is not needed is skipped, and nothing of it is undone.
func TestWhen(t *testing.T) {
	all := steps()
	all[0].When = func(o order) bool { return o.ID != "o1" }
	m := newMachine(t, Declaration[order]{Steps: all})
	if got := m.begin(t); got != "note" || m.states() != "skipped running todo todo" {
		t.Errorf("begins with %q: %s", got, m.states())
	}
	if got := m.cancel(t); got != "" || m.state.Saga.Status != Reversed {
		t.Errorf("asks for %q: %s", got, m.states())
	}
}

// A step that was skipped does not let the steps before it be undone before those after it.
func TestUndoAroundSkipped(t *testing.T) {
	all := []Step[order]{steps()[0], steps()[1], pack}
	all[1].When = func(order) bool { return false }
	m := newMachine(t, Declaration[order]{Steps: all})
	m.begin(t)
	m.hear(t, answerOf("inventory.reserved", ""))
	if got := m.cancel(t); got != "unpack" {
		t.Errorf("asks for %q", got)
	}
}

// approve is a step that waits for a person or an event from outside.
var approve = Step[order]{Name: "approve", Done: types.approved, Failed: types.rejected, Deadline: time.Hour}

// A step without a command waits for an event from outside, which may come before the saga has come to the step, or for
// a person. Its deadline undoes the saga.
func TestWait(t *testing.T) {
	all := []Step[order]{steps()[0], approve, steps()[2]}
	at := func() *machine {
		m := newMachine(t, Declaration[order]{Steps: all})
		m.begin(t)
		if got := m.hear(t, answerOf("inventory.reserved", "c1")); got != "" || m.state.Saga.Step != "approve" {
			t.Fatalf("asks for %q and waits for %s", got, m.state.Saga.Step)
		}
		return m
	}
	if got := at().hear(t, answerOf("people.approved", "elsewhere")); got != "capture" {
		t.Errorf("approved: asks for %q", got)
	}
	if m := at(); m.hear(t, answerOf("people.rejected", "elsewhere")) != "release" ||
		m.state.Saga.Reason != "because of people.rejected" {
		t.Errorf("rejected: %+v", m.state.Saga)
	}
	if got := at().pass(t, time.Hour); got != "release" {
		t.Errorf("late: asks for %q", got)
	}
	m := at()
	got := m.must(t, func(r *run[order]) error {
		return r.resolve("approve", Done, "", "", func(o *order) { o.Code = "by ada" })
	})
	if got != "capture" || m.state.Code != "by ada" {
		t.Errorf("completed: asks for %q, %+v", got, m.state)
	}
	m = at()
	got = m.must(t, func(r *run[order]) error { return r.resolve("approve", Failed, "no", "no", nil) })
	if got != "release" {
		t.Errorf("failed: asks for %q", got)
	}
	m = newMachine(t, Declaration[order]{Steps: all})
	m.begin(t)
	_, err := m.do(func(r *run[order]) error { return r.resolve("reserve", Done, "", "", nil) })
	if err == nil {
		t.Error("a step with a command was completed by a person")
	}
	early := m.hear(t, answerOf("people.approved", "elsewhere"))
	if got := m.hear(t, answerOf("inventory.reserved", "c1")); early != "" || got != "capture" {
		t.Errorf("early: asks for %q, then %q", early, got)
	}
}

// In any order, with any repetition, loss and delay, a saga with parallel branches ends once and holds all or nothing.
func TestEveryBranchEnds(t *testing.T) {
	pairs := map[string][3]string{
		"reserve": {"inventory.reserved", "inventory.refused"}, "release": {"inventory.released", "", "reserve"},
		"note": {"notifications.sent"}, "pack": {"depot.packed"}, "unpack": {"depot.unpacked", "", "pack"},
		"capture": {"payments.captured", "payments.declined"}, "refund": {"payments.refunded", "", "capture"},
	}
	ends := map[Status]int{}
	for seed := range uint64(3000) {
		rnd := rand.New(rand.NewPCG(seed, 11))
		m := newMachine(t, Declaration[order]{Steps: branches()})
		held, gone := map[string]bool{}, map[string]bool{}
		var mail []ce.Event
		m.begin(t)
		for beat := 0; ; beat++ {
			ended := m.state.Saga.Status.Ended()
			if ended && len(m.asked)+len(mail) == 0 {
				break
			}
			if beat > 3000 {
				t.Fatalf("seed %d has not ended: %s", seed, m.states())
			}
			switch choice := rnd.IntN(20); {
			case choice < 9 && len(m.asked) > 0:
				n := rnd.IntN(len(m.asked))
				c := m.asked[n]
				if rnd.IntN(4) > 0 || ended {
					m.asked = append(m.asked[:n:n], m.asked[n+1:]...)
				}
				what := strings.Split(c.Type(), ".")[3]
				p := pairs[what]
				answer := p[0]
				switch {
				case p[2] != "":
					held[p[2]], gone[p[2]] = false, true
				case gone[what] || !held[what] && p[1] != "" && rnd.IntN(4) == 0:
					gone[what] = true
					answer = p[1]
				default:
					held[what] = true
				}
				if answer != "" {
					mail = append(mail, answerOf(answer, c.ID()))
				}
			case choice < 18 && len(mail) > 0:
				n := rnd.IntN(len(mail))
				e := mail[n]
				if rnd.IntN(4) > 0 || ended {
					mail = append(mail[:n:n], mail[n+1:]...)
				}
				m.hear(t, e)
			case choice == 18 && rnd.IntN(4) == 0:
				m.cancel(t)
			default:
				m.pass(t, time.Duration(rnd.IntN(8))*time.Second)
			}
		}
		status := m.state.Saga.Status
		ends[status]++
		for _, step := range []string{"reserve", "pack", "capture"} {
			if held[step] != (status == Completed) {
				t.Fatalf("seed %d: %s, yet %s is held: %v (%s)", seed, status, step, held[step], m.states())
			}
		}
	}
	if ends[Completed] < 100 || ends[Reversed] < 100 {
		t.Error(fmt.Sprint("the test did not see enough of both ends: ", ends))
	}
}

// A retry of a saga that is being undone sends no command of the way forward.
func TestRetryWhileUndoing(t *testing.T) {
	approve := Step[order]{Name: "approve", Done: types.approved, Undo: send(types.unpack), Undone: types.unpacked}
	m := newMachine(t, Declaration[order]{Steps: []Step[order]{steps()[0], approve}})
	m.begin(t)
	m.hear(t, answerOf("people.approved", ""))
	m.cancel(t)
	if got := m.must(t, (*run[order]).retry); got != "unpack" {
		t.Errorf("retrying asks for %q: %s", got, m.states())
	}
}
