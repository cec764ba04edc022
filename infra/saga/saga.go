// Package saga runs a business transaction that spans functions: a declared list of steps, each a
// command that some function answers by an event, and each, where that is possible, with a
// command that undoes it.
//
// The package is pure. It keeps no state, reads no clock and sends nothing: the orchestrating
// function keeps the Progress beside its entity, hands in what it heard, and emits the drafts that
// come out in the same unit of work. The same declaration runs the saga and draws it.
//
//	running ──all steps done──▶ completed
//	   │ a failure, a deadline, a cancel
//	   ▼
//	undoing ──everything undone──▶ undone
//
// Undoing goes backwards over everything that was done and over the step in doubt, whose command
// may have taken effect although nobody has heard so. It waits for each confirmation and asks again
// whenever one does not come in time, for ever, so a saga that is undone holds nothing. A step
// that answered by its failure event has nothing to undo.
//
// The receivers of commands must be idempotent and must remember an undo that overtakes its
// command. Events that are repeated, late or meant for another step change nothing.
package saga

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
)

// Step is one step of a saga over an entity of type S.
type Step[S any] struct {
	Name    string
	Command func(S) event.Draft // what asks for the step
	Done    *event.Info         // the event that says it is done
	Failed  *event.Info         // the event that says it had no effect and never will; may be nil

	Undo   func(S) event.Draft // what takes the step back; nil: there is nothing to take back
	Undone *event.Info         // the event that says it is taken back

	Deadline time.Duration // how long to wait for an answer, to the command and to its undo

	// Pivot marks the point of no return. Once it is done the saga only goes forward: a later step has
	// no failure, is asked again past its deadline, and a cancel comes too late. While the
	// pivot is in doubt it is undone like any other step.
	Pivot bool
}

// Saga is a validated declaration. It is immutable and safe for concurrent use.
type Saga[S any] struct {
	name  string
	steps []Step[S]
	pivot int // index, or len(steps)
}

// New validates a declaration; all its faults come at once.
func New[S any](name string, steps ...Step[S]) (*Saga[S], error) {
	s := &Saga[S]{name: name, steps: slices.Clone(steps), pivot: len(steps)}
	var faults []error
	bad := func(step, format string, args ...any) {
		faults = append(faults, fmt.Errorf("saga %s: step %q %s", name, step, fmt.Sprintf(format, args...)))
	}
	if name == "" || len(steps) == 0 {
		faults = append(faults, fmt.Errorf("saga %q wants a name and at least one step", name))
	}
	seen := map[string]bool{}
	for i, step := range steps {
		switch {
		case step.Name == "":
			bad(step.Name, "has no name")
		case seen[step.Name]:
			bad(step.Name, "is there twice")
		}
		seen[step.Name] = true
		if step.Command == nil || step.Done == nil {
			bad(step.Name, "wants a command and the event that says it is done")
		}
		if (step.Undo == nil) != (step.Undone == nil) {
			bad(step.Name, "wants an undo and its event, or neither")
		}
		if step.Deadline <= 0 {
			bad(step.Name, "wants a deadline")
		}
		if step.Done != nil && (step.Done == step.Failed || step.Done == step.Undone) {
			bad(step.Name, "has one event for two answers")
		}
		if s.pivot < i && step.Failed != nil {
			bad(step.Name, "comes after the pivot and must not fail")
		}
		if step.Pivot {
			if s.pivot < i {
				bad(step.Name, "is a second pivot")
			} else {
				s.pivot = i
			}
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return s, nil
}

// Name is what the saga is called.
func (s *Saga[S]) Name() string { return s.name }

// Hears is every type of event the saga reacts to, each once.
func (s *Saga[S]) Hears() []*event.Info {
	var all []*event.Info
	for _, step := range s.steps {
		for _, info := range []*event.Info{step.Done, step.Failed, step.Undone} {
			if info != nil && !slices.Contains(all, info) {
				all = append(all, info)
			}
		}
	}
	return all
}

// Start is the progress of a saga that begins now, and its first command.
func (s *Saga[S]) Start(entity S, now time.Time) (Progress, []event.Draft) {
	p := Progress{Status: Running, Steps: make([]StepProgress, len(s.steps))}
	for i, step := range s.steps {
		p.Steps[i] = StepProgress{Name: step.Name, State: ToDo}
	}
	return p, s.begin(&p, 0, entity, now)
}

// Heard takes notice of an event. The reason is what the saga is undone for if the event is a failure.
func (s *Saga[S]) Heard(p Progress, entity S, eventType, reason string, now time.Time) (Progress, []event.Draft, bool) {
	i := s.current(p)
	if i < 0 {
		return p, nil, false
	}
	step := s.steps[i]
	switch {
	case p.Status == Running && is(step.Done, eventType):
		p = p.clone()
		p.Steps[i].State, p.Steps[i].EndedAt = Done, now
		return p, s.begin(&p, i+1, entity, now), true
	case p.Status == Running && is(step.Failed, eventType):
		p = p.clone()
		p.Steps[i].State, p.Steps[i].EndedAt = Failed, now
		return p, s.turn(&p, i-1, entity, reason, now), true
	case p.Status == Undoing && is(step.Undone, eventType):
		p = p.clone()
		p.Steps[i].State, p.Steps[i].UndoneAt = Undone, now
		return p, s.undo(&p, i-1, entity, now), true
	}
	return p, nil, false
}

// Expired does what is to be done when the step's deadline has passed by now; nothing before.
func (s *Saga[S]) Expired(p Progress, entity S, now time.Time) (Progress, []event.Draft, bool) {
	i := s.current(p)
	if i < 0 || now.Before(p.Due) {
		return p, nil, false
	}
	p = p.clone()
	step := s.steps[i]
	switch {
	case p.Status == Undoing:
		p.Due = now.Add(step.Deadline)
		p.Again++
		return p, []event.Draft{step.Undo(entity)}, true
	case i > s.pivot:
		p.Due = now.Add(step.Deadline)
		p.Again++
		return p, []event.Draft{step.Command(entity)}, true
	}
	return p, s.turn(&p, i, entity, timedOut(step.Name), now), true
}

// Cancel undoes the saga, unless its pivot is done, it is being undone already, or it has ended.
func (s *Saga[S]) Cancel(p Progress, entity S, reason string, now time.Time) (Progress, []event.Draft, bool) {
	i := s.current(p)
	if i < 0 || p.Status != Running || i > s.pivot {
		return p, nil, false
	}
	p = p.clone()
	return p, s.turn(&p, i, entity, reason, now), true
}

// current is the step that an answer is awaited for; -1: none.
func (s *Saga[S]) current(p Progress) int {
	if p.Status.Ended() {
		return -1
	}
	i := slices.IndexFunc(s.steps, func(step Step[S]) bool { return step.Name == p.Step })
	if i >= len(p.Steps) || i >= 0 && p.Steps[i].Name != p.Step {
		return -1 // another declaration's progress
	}
	return i
}

// begin starts step i, or completes the saga.
func (s *Saga[S]) begin(p *Progress, i int, entity S, now time.Time) []event.Draft {
	if i == len(s.steps) {
		p.end(Completed)
		return nil
	}
	p.await(s.steps[i].Name, now.Add(s.steps[i].Deadline))
	p.Steps[i].State, p.Steps[i].StartedAt = Doing, now
	return []event.Draft{s.steps[i].Command(entity)}
}

// turn makes a running saga go backwards from step i.
func (s *Saga[S]) turn(p *Progress, i int, entity S, reason string, now time.Time) []event.Draft {
	p.Status, p.Reason = Undoing, reason
	return s.undo(p, i, entity, now)
}

// undo takes back the last step at or before i that can be, or ends the saga.
func (s *Saga[S]) undo(p *Progress, i int, entity S, now time.Time) []event.Draft {
	for ; i >= 0; i-- {
		step := s.steps[i]
		if step.Undo == nil {
			p.Steps[i].State, p.Steps[i].UndoneAt = Undone, now
			continue
		}
		p.await(step.Name, now.Add(step.Deadline))
		p.Steps[i].State, p.Steps[i].UndoingAt = BeingUndone, now
		return []event.Draft{step.Undo(entity)}
	}
	p.end(Reversed)
	return nil
}

func is(info *event.Info, eventType string) bool { return info != nil && info.Name == eventType }
