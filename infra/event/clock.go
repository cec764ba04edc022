package event

import (
	"encoding/json"
	"time"
)

// ScheduleEvent asks the clock to publish an event later.
type ScheduleEvent struct {
	TimerID string          `json:"timer_id" minLength:"1" maxLength:"200" doc:"Chosen by the sender; the same id again replaces the timer."`
	Due     time.Time       `json:"due"`
	Event   json.RawMessage `json:"event" type:"object" doc:"A complete CloudEvent in structured JSON, published as it is."`
}

// CancelTimer asks the clock to delete a timer.
type CancelTimer struct {
	TimerID string `json:"timer_id" minLength:"1" maxLength:"200"`
}

// SweptClock asks every function to publish the events that a crash left in its outbox.
type SweptClock struct {
	At time.Time `json:"at"`
}

// FiredSchedule tells a function that a run of one of its schedules is due.
type FiredSchedule struct {
	Function string    `json:"function" minLength:"1" maxLength:"128" doc:"The function that has declared the schedule."`
	Schedule string    `json:"schedule" minLength:"1" maxLength:"63" doc:"Its name within the function."`
	At       time.Time `json:"at" doc:"When the run was due."`
	Missed   int       `json:"missed,omitempty" min:"0" doc:"How many runs before it were missed and are left out."`
}

// The commands of the clock.
var (
	ClockSchedule = Define(kit, "clock.schedule", 1, Command, "Publish an event when it is due.",
		ScheduleEvent{TimerID: exTimer, Due: exTime, Event: json.RawMessage(
			`{"specversion":"1.0","id":"` + exTimer + `","source":"/functions/tickets",` +
				`"type":"com.example.helpdesk.tickets.deadline.v1","subject":"` + exTicket + `",` +
				`"datacontenttype":"application/json","data":{"ticket_id":"` + exTicket + `"}}`)})

	ClockCancel = Define(kit, "clock.cancel", 1, Command,
		"Forget a timer. One that is unknown or has gone off is no error.",
		CancelTimer{TimerID: exTimer})
)

// The facts of the clock.
var (
	ClockSwept = Define(kit, "clock.swept", 1, Fact,
		"It is time to sweep: every function hears it, is woken by it, and publishes what is left in its outbox.",
		SweptClock{At: exTime})

	ClockFired = Define(kit, "clock.fired", 1, Fact,
		"A run of a function's recurring schedule is due. The subject is FUNCTION/SCHEDULE: only that function consumes it.",
		FiredSchedule{Function: "tickets", Schedule: "nightly-report", At: exTime, Missed: 2},
		FiredSchedule{Function: "tickets", Schedule: "nightly-report", At: exTime})
)
