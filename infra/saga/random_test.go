package saga

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
)

// randomSteps returns steps of which each comes after some before it: with commands, with deadlines, that fail, that
// cannot be undone, that wait for an event from outside with or without a deadline, and perhaps a pivot.
func randomSteps(rnd *rand.Rand) []Step[order] {
	n := event.NewNamespace("com.example", "https://example.com/schemas/")
	define := func(name string, kind event.Kind) event.Type[orderData] {
		return event.Define(n, "random."+name, 1, kind, "A step.", orderData{OrderID: "o1"})
	}
	count := 2 + rnd.IntN(5)
	pivot := -1
	if rnd.IntN(2) == 0 {
		pivot = rnd.IntN(count)
	}
	all := make([]Step[order], count)
	for i := range all {
		name := fmt.Sprint("s", i)
		s := Step[order]{Name: name, Deadline: time.Duration(5+rnd.IntN(20)) * time.Second, Pivot: i == pivot}
		s.Done = define(name+"-done", event.Fact)
		if rnd.IntN(4) > 0 {
			s.Command = send(define(name+"-do", event.Command))
		} else if rnd.IntN(2) == 0 {
			s.Deadline = 0
		}
		if rnd.IntN(3) > 0 {
			s.Undo, s.Undone = send(define(name+"-undo", event.Command)), define(name+"-undone", event.Fact)
		}
		switch {
		case pivot >= 0 && i == pivot:
			for j := range i {
				s.After = append(s.After, fmt.Sprint("s", j))
			}
		case pivot >= 0 && i > pivot:
			s.After = []string{fmt.Sprint("s", pivot)}
		default:
			s.After = []string{}
			for j := range i {
				if rnd.IntN(2) == 0 {
					s.After = append(s.After, fmt.Sprint("s", j))
				}
			}
			s.Failed = define(name+"-failed", event.Fact)
		}
		if i == pivot {
			s.Failed = define(name+"-failed", event.Fact)
		}
		all[i] = s
	}
	return all
}

// Whatever a saga looks like, and whatever happens to it at once, answers, failures, deadlines, cancels and operators:
// a step begins when those before it are done and is undone before those, nothing goes forward in a saga that goes
// backward, a saga that has not ended waits for something, and it ends with nothing left behind.
func TestAnySagaEnds(t *testing.T) {
	ends := map[Status]int{}
	for seed := range uint64(3000) {
		rnd := rand.New(rand.NewPCG(seed, 11))
		m := newMachine(t, Declaration[order]{Steps: randomSteps(rnd)})
		var log []string
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("seed %d: %s\n%s\n%v", seed, fmt.Sprintf(format, args...), m.states(), log)
		}
		check := func(what, before string, sent string) {
			t.Helper()
			log = append(log, what+" → "+sent)
			p := &m.state.Saga
			was := strings.Fields(before)
			for i, s := range p.Steps {
				began := s.State == Doing && (len(was) == 0 || was[i] == string(ToDo))
				if began && !p.ready(i) {
					fail("%s begins too early", s.Name)
				}
				if s.State == BeingUndone && !p.clear(i) {
					fail("%s is undone before what came after it", s.Name)
				}
			}
			for _, name := range strings.Fields(sent) {
				if strings.HasSuffix(name, "-do") && p.Status != Running {
					fail("%s while the saga is %s", name, p.Status)
				}
			}
			waits := p.has(BeingUndone)
			for i, s := range p.Steps {
				waits = waits || s.State == Doing || s.State == ToDo && m.g.step(1, p.Steps[i].Name).Command == nil
			}
			if !p.Status.Ended() && !waits {
				fail("it waits for nothing")
			}
			if p.Status.Ended() && p.has(Doing, BeingUndone) {
				fail("it has ended as %s, and a step has not", p.Status)
			}
			if p.Status == Reversed && p.has(Done) {
				fail("it is undone, and a step is not")
			}
		}
		check("begin", "", m.begin(t))
		for beat := 0; !m.state.Saga.Status.Ended(); beat++ {
			if beat > 3000 {
				fail("no end")
			}
			before := m.states()
			step := m.g.d.Steps[rnd.IntN(len(m.g.d.Steps))]
			cause := ""
			if len(m.asked) > 0 {
				cause = m.asked[rnd.IntN(len(m.asked))].ID()
			}
			answers := []event.Typed{step.Done, step.Undone, step.Failed}
			switch choice := rnd.IntN(40); {
			case choice < 24:
				key := sentKey(step.Name, false)
				a := answers[rnd.IntN(2)]
				if rnd.IntN(12) == 0 {
					a = answers[2]
				}
				if a == nil {
					continue
				}
				if a == step.Undone {
					key = sentKey(step.Name, true)
				}
				if ids := m.state.Sent[key]; len(ids) > 0 && rnd.IntN(8) > 0 {
					cause = ids[rnd.IntN(len(ids))]
				} else if step.Command == nil && a != step.Undone {
					cause = "outside"
				}
				what := strings.TrimSuffix(strings.TrimPrefix(a.Info().Name, "com.example."), ".v1")
				check(what, before, m.hear(t, answerOf(what, cause)))
			case choice < 36:
				check("time", before, m.pass(t, time.Duration(rnd.IntN(12))*time.Second))
				if due := m.state.Saga.nextDue(); !due.IsZero() && !due.After(m.now) {
					fail("a deadline has passed and nothing came of it")
				}
			case choice == 36:
				check("cancel", before, m.cancel(t))
			case choice == 37:
				sent, err := m.do((*run[order]).retry)
				check(fmt.Sprint("retry ", err), before, sent)
			case choice == 38 && rnd.IntN(4) == 0:
				sent, err := m.do(func(r *run[order]) error { return r.skip(step.Name, "by hand") })
				check(fmt.Sprint("skip ", step.Name, " ", err), before, sent)
			}
		}
		ends[m.state.Saga.Status]++
		states := m.states()
		for _, step := range m.g.d.Steps {
			for _, a := range []event.Typed{step.Done, step.Undone, step.Failed} {
				if a != nil {
					m.hear(t, answerOf(strings.TrimSuffix(strings.TrimPrefix(a.Info().Name, "com.example."), ".v1"), "late"))
				}
			}
		}
		m.pass(t, 24*time.Hour)
		if got := m.states(); got != states {
			fail("it has changed after its end, from %s", states)
		}
	}
	if slices.Min([]int{ends[Completed], ends[Reversed]}) < 200 {
		t.Errorf("the test saw too little of one end: %v", ends)
	}
}
