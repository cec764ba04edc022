package timemachine

import (
	"time"

	"github.com/ebb-dev/ebb/infra/saga"
	"github.com/ebb-dev/ebb/infra/simulate"
)

// Change tells how a run differs from what was recorded.
type Change string

// The changes.
const (
	Same      Change = "same"
	Different Change = "different"
	Missing   Change = "missing" // it was recorded, and the run does not have it
	New       Change = "new"     // the run has it, and it was not recorded
)

// Report tells what differs between a recording and a run of it.
type Report struct {
	Same     bool          `json:"same"` // no event and no state differs, and the run had no problem
	About    string        `json:"about,omitempty"`
	Since    time.Time     `json:"since"` // of the first and the last recorded event
	Until    time.Time     `json:"until"`
	Recorded int           `json:"recorded"` // events
	Others   int           `json:"others"`   // facts of others about the same entities
	Inputs   []Input       `json:"inputs"`
	Events   []EventChange `json:"events"`
	State    []StateChange `json:"state"`
	Sagas    []Saga        `json:"sagas,omitempty"`    // as the run has left them
	Problems []string      `json:"problems,omitempty"` // of the run: panics, errors, dead letters
	Notes    []string      `json:"notes,omitempty"`    // what the run could not make again

	NotCompared []string `json:"not_compared"`
}

// Count returns how many events have changed so.
func (r *Report) Count(c Change) (n int) {
	for _, e := range r.Events {
		if e.Change == c {
			n++
		}
	}
	return n
}

// EventChange is an event, and how it differs. Ids are the recorded ones.
type EventChange struct {
	Change   Change    `json:"change"`
	Type     string    `json:"type"`
	Function string    `json:"function"`
	Subject  string    `json:"subject,omitempty"`
	ID       string    `json:"id"`   // of the recorded event; of a new one, that of the run
	Time     time.Time `json:"time"` // of the recorded event; of a new one, that of the run
	Fields   []Field   `json:"fields,omitempty"`
}

// Field is a member of the data that differs: "" stands for one that is missing.
type Field struct {
	Path     string `json:"path"` // lines[0].unit_price.amount
	Recorded string `json:"recorded,omitempty"`
	Now      string `json:"now,omitempty"`
}

// StateChange is what the last facts of a function tell of an entity, or a document that they make.
type StateChange struct {
	Change   Change  `json:"change"`
	Function string  `json:"function"`
	Entity   string  `json:"entity"`             // the subject, or COLLECTION/ID of a document
	Recorded string  `json:"recorded,omitempty"` // the type of the last fact
	Now      string  `json:"now,omitempty"`
	Fields   []Field `json:"fields,omitempty"` // of a document
}

// Saga is a saga as the run has left it.
type Saga struct {
	Function string        `json:"function"`
	ID       string        `json:"id"`
	Progress saga.Progress `json:"progress"`
}

// tell adds the problems that the simulation has found. Dead letters alone do not make the run differ: the past may
// have had them too, and the events of the archive do not tell.
func (r *Report) tell(violations []simulate.Violation) {
	seen := map[string]bool{}
	for _, v := range violations {
		if seen[v.Text] {
			continue
		}
		seen[v.Text] = true
		r.Problems = append(r.Problems, v.Text)
		r.Same = r.Same && v.Class == simulate.DeadLetter
	}
}
