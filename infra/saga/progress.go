package saga

import (
	"slices"
	"time"
)

// Status is the state of a whole saga.
type Status string

const (
	Running   Status = "running"   // going forward
	Undoing   Status = "undoing"   // going backward
	Completed Status = "completed" // every step is done; final
	Reversed  Status = "undone"    // every step that was done is undone; final
)

// Ended reports whether the status is final.
func (s Status) Ended() bool { return s == Completed || s == Reversed }

// State is the state of one step.
type State string

const (
	ToDo        State = "todo"
	Doing       State = "running" // its command was sent; in doubt until the answer arrives
	Done        State = "done"
	Failed      State = "failed"  // the answer was that it had no effect
	Skipped     State = "skipped" // not needed, or skipped by an operator; nothing has to be undone
	BeingUndone State = "undoing" // its undo was sent
	Undone      State = "undone"
)

// active reports whether the step had, or may have had, an effect that is not undone.
func (s State) active() bool { return s == Doing || s == Done || s == BeingUndone }

// Progress is how far a saga is: a picture for people, and what the kit goes on from.
type Progress struct {
	Status  Status         `json:"status" enum:"running,undoing,completed,undone"`
	Version int            `json:"version,omitempty" doc:"The version of the declaration that it began with."`
	Step    string         `json:"step,omitempty" doc:"The step whose answer is awaited; the most urgent one of several."`
	Due     time.Time      `json:"due,omitzero" doc:"When it has taken too long."`
	Again   int            `json:"again,omitempty" doc:"How often its command was sent again."`
	Reason  string         `json:"reason,omitempty" doc:"Why it is undone."`
	Stuck   *Stuck         `json:"stuck,omitempty" doc:"Set while it does not get on without a person."`
	Steps   []StepProgress `json:"steps" doc:"All steps in order, those to come included."`
}

// Stuck tells why a saga does not get on.
type Stuck struct {
	Step   string    `json:"step"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// StepProgress is the state of one step, with the time of each change.
type StepProgress struct {
	Name      string    `json:"name"`
	State     State     `json:"state" enum:"todo,running,done,failed,skipped,undoing,undone"`
	After     []string  `json:"after,omitempty" doc:"The steps that are done before it; none: the step before it in the list."`
	AtOnce    bool      `json:"at_once,omitempty" doc:"It is done after no other step."`
	Pivot     bool      `json:"pivot,omitempty" doc:"Once it is done the saga only goes forward."`
	StartedAt time.Time `json:"started_at,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero" doc:"When it was done, had failed or was skipped."`
	UndoingAt time.Time `json:"undoing_at,omitzero"`
	UndoneAt  time.Time `json:"undone_at,omitzero"`
	Due       time.Time `json:"due,omitzero" doc:"When its answer has taken too long."`
	Again     int       `json:"again,omitempty" doc:"How often its command, or its undo, was sent again."`
	Skipped   string    `json:"skipped,omitempty" doc:"Why an operator skipped it, or its undo."`
}

// index returns the index of a step, -1 if the saga does not have it.
func (p *Progress) index(step string) int {
	return slices.IndexFunc(p.Steps, func(s StepProgress) bool { return s.Name == step })
}

// dependsOn reports whether step j begins after step i.
func (p *Progress) dependsOn(j, i int) bool {
	s := &p.Steps[j]
	if len(s.After) == 0 {
		return !s.AtOnce && j == i+1
	}
	return slices.Contains(s.After, p.Steps[i].Name)
}

// ready reports whether every step that step j depends on, directly or not, is done: a step that waits for an event may
// be done before those before it.
func (p *Progress) ready(j int) bool {
	for i := range p.Steps {
		if p.dependsOn(j, i) && (p.Steps[i].State != Done && p.Steps[i].State != Skipped || !p.ready(i)) {
			return false
		}
	}
	return true
}

// clear reports whether no step that depends on step i, directly or not, has an effect that is not undone.
func (p *Progress) clear(i int) bool {
	for j := range p.Steps {
		if p.dependsOn(j, i) && (p.Steps[j].State.active() || !p.clear(j)) {
			return false
		}
	}
	return true
}

// pivoted reports whether the saga only goes forward from here on.
func (p *Progress) pivoted() bool {
	return slices.ContainsFunc(p.Steps, func(s StepProgress) bool {
		return s.Pivot && (s.State == Done || s.State == Skipped)
	})
}

// has reports whether a step is in one of the states.
func (p *Progress) has(states ...State) bool {
	return slices.ContainsFunc(p.Steps, func(s StepProgress) bool { return slices.Contains(states, s.State) })
}

// summarize sets what is shown of the whole saga from its steps: the awaited step with the earliest deadline.
func (p *Progress) summarize() {
	p.Step, p.Due, p.Again = "", time.Time{}, 0
	if p.Status.Ended() {
		return
	}
	first := -1
	for i, s := range p.Steps {
		awaited := s.State == Doing || s.State == BeingUndone || !s.Due.IsZero()
		if awaited && (first < 0 || earlier(s.Due, p.Steps[first].Due)) {
			first = i
		}
	}
	if first >= 0 {
		p.Step, p.Due, p.Again = p.Steps[first].Name, p.Steps[first].Due, p.Steps[first].Again
	}
}

// earlier reports whether a comes before b; the zero time is no time and comes last.
func earlier(a, b time.Time) bool {
	return !a.IsZero() && (b.IsZero() || a.Before(b))
}

// adopt completes progress that an older version of the kit stored, which had one awaited step and no version.
func (p *Progress) adopt(pivot func(step string) bool) {
	if p.Version != 0 {
		return
	}
	p.Version = 1
	for i := range p.Steps {
		s := &p.Steps[i]
		s.Pivot = pivot(s.Name)
		if s.Name == p.Step {
			s.Due, s.Again = p.Due, p.Again
		}
	}
}

// began returns when the first step began.
func (p *Progress) began() time.Time {
	var first time.Time
	for _, s := range p.Steps {
		if earlier(s.StartedAt, first) {
			first = s.StartedAt
		}
	}
	return first
}

// Public returns the progress for those whom the saga serves: without what operators wrote, and whether it is stuck.
func (p Progress) Public() Progress {
	p = p.clone()
	p.Stuck = nil
	for i := range p.Steps {
		p.Steps[i].Skipped = ""
	}
	return p
}

func (p Progress) clone() Progress {
	p.Steps = slices.Clone(p.Steps)
	return p
}
