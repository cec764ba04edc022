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
	BeingUndone State = "undoing" // its undo was sent
	Undone      State = "undone"
)

// Progress is the state of one saga. It is a value: no function of the package changes one that it was given.
type Progress struct {
	Status Status         `json:"status" enum:"running,undoing,completed,undone"`
	Step   string         `json:"step,omitempty" doc:"The step whose answer is awaited."`
	Due    time.Time      `json:"due,omitzero" doc:"When it has taken too long."`
	Again  int            `json:"again,omitempty" doc:"How often its command was sent again."`
	Reason string         `json:"reason,omitempty" doc:"Why it is undone."`
	Steps  []StepProgress `json:"steps" doc:"All steps in order, those to come included."`
}

// StepProgress is the state of one step, with the time of each change.
type StepProgress struct {
	Name      string    `json:"name"`
	State     State     `json:"state" enum:"todo,running,done,failed,undoing,undone"`
	StartedAt time.Time `json:"started_at,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero" doc:"When it was done or had failed."`
	UndoingAt time.Time `json:"undoing_at,omitzero"`
	UndoneAt  time.Time `json:"undone_at,omitzero"`
}

func (p Progress) clone() Progress {
	p.Steps = slices.Clone(p.Steps)
	return p
}

func (p *Progress) await(step string, due time.Time) { p.Step, p.Due, p.Again = step, due, 0 }

func (p *Progress) end(status Status) {
	p.Status = status
	p.await("", time.Time{})
}
