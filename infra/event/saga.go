package event

import "time"

// StuckSaga is a saga that does not get on without a person.
type StuckSaga struct {
	Function string    `json:"function" minLength:"1" maxLength:"100" doc:"The function that runs the saga."`
	Saga     string    `json:"saga" minLength:"1" maxLength:"100" doc:"The name of its declaration."`
	ID       string    `json:"id" minLength:"1" maxLength:"200"`
	Status   string    `json:"status" enum:"running,undoing"`
	Step     string    `json:"step" minLength:"1" maxLength:"100" doc:"The step that is not answered, or that no declaration has."`
	Reason   string    `json:"reason" minLength:"1" maxLength:"2000"`
	Since    time.Time `json:"since"`
}

// SagaStuck is emitted once by a function whose saga was sent a command too often without an answer, or comes to a step
// that it does not know.
var SagaStuck = Define(kit, "sagas.stuck", 1, Fact,
	"A saga does not get on: a command or an undo is not answered, or a step is unknown. A person has to look at it.",
	StuckSaga{
		Function: "tickets", Saga: "ticket", ID: exTicket, Status: "undoing", Step: "assign",
		Reason: "its undo is not answered", Since: exTime,
	})
