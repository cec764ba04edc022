package event

import "time"

// ReplayEvents asks the archive to publish events that it has stored again.
type ReplayEvents struct {
	ReplayID string    `json:"replay_id" minLength:"1" maxLength:"128"`
	To       string    `json:"to" minLength:"1" maxLength:"100" doc:"The one function that is to hear it."`
	Types    []string  `json:"types,omitempty" doc:"None: every type."`
	Since    time.Time `json:"since,omitzero" doc:"From this time on; none: from the beginning."`
	Until    time.Time `json:"until,omitzero" doc:"Up to this time; none: until the command was sent."`
	Subject  string    `json:"subject,omitempty" maxLength:"200" doc:"Only events about this entity."`
	Cursor   string    `json:"cursor,omitempty" maxLength:"4096" doc:"Where to go on; the archive sends itself one command for each portion."`
}

// FinishedReplay reports that a replay has ended.
type FinishedReplay struct {
	ReplayID string `json:"replay_id" minLength:"1" maxLength:"128"`
	To       string `json:"to" minLength:"1" maxLength:"100"`
	Count    int    `json:"count" min:"0" doc:"Events said again."`
}

// The commands of the archive.
var (
	ArchiveReplay = Define(kit, "archive.replay", 1, Command,
		"Publish kept events again, for one function alone, marked so that side effects do not happen again. "+
			"Ends with archive.replayed.",
		ReplayEvents{
			ReplayID: exReplay, To: "views", Types: []string{"com.example.helpdesk.tickets.opened.v1"},
			Since: exTime, Until: exTime.AddDate(0, 1, 0), Subject: exTicket, Cursor: "b3JkZXI6Mg",
		},
		ReplayEvents{ReplayID: exReplay, To: "views"})
)

// The facts of the archive.
var (
	ArchiveReplayed = Define(kit, "archive.replayed", 1, Fact, "A replay has published all it had to.",
		FinishedReplay{ReplayID: exReplay, To: "views", Count: 42})
)

// MendDeadLetters asks the archive to go on with a job that mends dead letters and sends them again.
type MendDeadLetters struct {
	MendID string `json:"mend_id" minLength:"1" maxLength:"128"`
	Step   int    `json:"step" min:"0" doc:"Which portion of the job it is; an earlier one is not done again."`
}

// ArchiveMend is the command that the archive sends itself for each portion of a job.
var ArchiveMend = Define(kit, "archive.mend", 1, Command,
	"Mend the next dead letters of a job and send them again. The archive sends itself one command for each portion.",
	MendDeadLetters{MendID: exReplay, Step: 3})
