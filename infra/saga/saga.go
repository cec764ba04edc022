// Package saga runs a business transaction that spans functions: a declared list of steps. Each step has a command that
// a function answers with an event and, where that is possible, a command that undoes it.
//
//	booking, err := saga.New("ticket", saga.Step[ticket]{
//		Name: "assign", Deadline: 30 * time.Second,
//		Command: func(k ticket) event.Draft { return events.AgentAssign.New(k.ID, events.AssignAgent{TicketID: k.ID}) },
//		Done:    events.AgentAssigned.Info(), Failed: events.AgentRefused.Info(),
//		Undo:   func(k ticket) event.Draft { return events.AgentUnassign.New(k.ID, events.UnassignAgent{TicketID: k.ID}) },
//		Undone: events.AgentUnassigned.Info(),
//	})
//
//	progress, commands := booking.Start(k, tx.Now())
//
// The package has no side effects. It keeps no state, reads no clock and sends nothing: the orchestrating function
// stores the Progress with its entity, passes in the events that it consumes, and emits the returned drafts in the same
// unit of work. The same declaration runs the saga and draws it.
//
//	running ──all steps done──▶ completed
//	   │ a failure, a deadline, a cancel
//	   ▼
//	undoing ──everything undone──▶ undone
//
// Undoing goes backwards over every step that was done and over the step in doubt, whose command may have taken effect
// although its answer has not arrived. It waits for each confirmation and sends the command again each time that one
// does not arrive within the deadline, without a limit, so a saga that is undone holds nothing. A step that answered
// with its failure event has nothing to undo.
//
// The receivers of commands must be idempotent and must store an undo that overtakes its command. Events that are
// repeated, late or for another step change nothing.
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
	Command func(S) event.Draft // returns the command of the step
	Done    *event.Info         // the answer: the step is done
	Failed  *event.Info         // the answer: the step had no effect and never will; may be nil

	Undo   func(S) event.Draft // returns the command that undoes the step; nil: nothing has to be undone
	Undone *event.Info         // the answer: the step is undone

	Deadline time.Duration // for the answer to the command, and for the answer to its undo

	// Pivot marks the point of no return. Once it is done the saga only goes forward: a later step has no failure event,
	// its command is sent again after its deadline, and Cancel changes nothing. While the pivot is in doubt it is undone
	// like any other step.
	Pivot bool
}

// Saga is a validated declaration. It is immutable and safe for concurrent use.
type Saga[S any] struct {
	name  string
	steps []Step[S]
	pivot int // index, or len(steps)
}

// New returns a saga, or an error that names everything that is not valid in the declaration.
func New[S any](name string, steps ...Step[S]) (*Saga[S], error) {
	s := &Saga[S]{name: name, steps: slices.Clone(steps), pivot: len(steps)}
	var errs []error
	invalid := func(step, format string, args ...any) {
		errs = append(errs, fmt.Errorf("saga %s: step %q %s", name, step, fmt.Sprintf(format, args...)))
	}
	if name == "" || len(steps) == 0 {
		errs = append(errs, fmt.Errorf("saga %q wants a name and at least one step", name))
	}
	seen := map[string]bool{}
	for i, step := range steps {
		switch {
		case step.Name == "":
			invalid(step.Name, "has no name")
		case seen[step.Name]:
			invalid(step.Name, "is there twice")
		}
		seen[step.Name] = true
		if step.Command == nil || step.Done == nil {
			invalid(step.Name, "wants a command and the event that says it is done")
		}
		if (step.Undo == nil) != (step.Undone == nil) {
			invalid(step.Name, "wants an undo and its event, or neither")
		}
		if step.Deadline <= 0 {
			invalid(step.Name, "wants a deadline")
		}
		if step.Done != nil && (step.Done == step.Failed || step.Done == step.Undone) {
			invalid(step.Name, "has one event for two answers")
		}
		if s.pivot < i && step.Failed != nil {
			invalid(step.Name, "comes after the pivot and must not fail")
		}
		if step.Pivot {
			if s.pivot < i {
				invalid(step.Name, "is a second pivot")
			} else {
				s.pivot = i
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// Name returns the name of the saga.
func (s *Saga[S]) Name() string { return s.name }

// Consumes returns every event type that the saga reacts to, each once.
func (s *Saga[S]) Consumes() []*event.Info {
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

// Start returns the progress of a saga that begins now, and its first command.
func (s *Saga[S]) Start(entity S, now time.Time) (Progress, []event.Draft) {
	p := Progress{Status: Running, Steps: make([]StepProgress, len(s.steps))}
	for i, step := range s.steps {
		p.Steps[i] = StepProgress{Name: step.Name, State: ToDo}
	}
	return p, s.begin(&p, 0, entity, now)
}

// Handle returns the progress after an event and the commands to emit; false if the event changes nothing. If the event
// is a failure, the saga is undone for the reason.
func (s *Saga[S]) Handle(
	p Progress, entity S, eventType, reason string, now time.Time,
) (Progress, []event.Draft, bool) {
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

// Expired returns the progress after the deadline of the current step and the commands to emit; false if the deadline
// has not passed by now.
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

// Cancel starts to undo the saga for the reason. It returns false and changes nothing if the pivot is done, the saga is
// being undone already, or it has ended.
func (s *Saga[S]) Cancel(p Progress, entity S, reason string, now time.Time) (Progress, []event.Draft, bool) {
	i := s.current(p)
	if i < 0 || p.Status != Running || i > s.pivot {
		return p, nil, false
	}
	p = p.clone()
	return p, s.turn(&p, i, entity, reason, now), true
}

// current returns the index of the step whose answer is awaited; -1 if there is none.
func (s *Saga[S]) current(p Progress) int {
	if p.Status.Ended() {
		return -1
	}
	i := slices.IndexFunc(s.steps, func(step Step[S]) bool { return step.Name == p.Step })
	if i >= len(p.Steps) || i >= 0 && p.Steps[i].Name != p.Step {
		return -1 // the progress of another declaration
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

// turn starts to undo a running saga from step i backwards.
func (s *Saga[S]) turn(p *Progress, i int, entity S, reason string, now time.Time) []event.Draft {
	p.Status, p.Reason = Undoing, reason
	return s.undo(p, i, entity, now)
}

// undo undoes the last step at or before i that has an undo, or ends the saga.
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
