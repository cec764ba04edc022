package event

// DueCall names a call of another service that is to be made again.
type DueCall struct {
	Function string `json:"function" minLength:"1" maxLength:"200" doc:"The function that makes the call; others ignore the event."`
	Call     string `json:"call" minLength:"1" maxLength:"600" doc:"Which of its calls."`
}

// CallDue is set as a timer by a function whose call of another service has failed, and consumed by that function; see
// infra/outside.
var CallDue = Define(kit, "outside.call-due", 1, Fact,
	"It is time to make a call of another service again that has failed, or that a crash has left undone.",
	DueCall{Function: "payments", Call: "capture/" + exTicket})
