package saga

import (
	"slices"
	"time"
)

// Status is how a saga as a whole stands.
type Status string

const (
	Running   Status = "running"   // going forward
	Undoing   Status = "undoing"   // going backward
	Completed Status = "completed" // every step is done; final
	Reversed  Status = "undone"    // nothing is left of it; final
)

// Ended reports whether nothing will change any more.
func (s Status) Ended() bool { return s == Completed || s == Reversed }

// State is how one step stands.
type State string

const (
	ToDo        State = "todo"
	Doing       State = "running" // asked for; in doubt until its answer is heard
	Done        State = "done"
	Failed      State = "failed"  // it answered that it had no effect
	BeingUndone State = "undoing" // its undo is asked for
	Undone      State = "undone"
)

// Progress is where one saga stands. It is a value: nothing changes one that was handed out.
type Progress struct {
	Status Status         `json:"status" enum:"running,undoing,completed,undone"`
	Step   string         `json:"step,omitempty" doc:"The step whose answer is awaited."`
	Due    time.Time      `json:"due,omitzero" doc:"When it has taken too long."`
	Again  int            `json:"again,omitempty" doc:"How often its command was sent again."`
	Reason string         `json:"reason,omitempty" doc:"Why it is undone."`
	Steps  []StepProgress `json:"steps" doc:"All steps in order, those to come included."`
}

// StepProgress is where one step stands and since when.
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
