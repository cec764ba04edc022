package event

import (
	"encoding/json"
	"time"
)

// ChangedFlag is the whole flag after a change.
type ChangedFlag struct {
	Key        string          `json:"key" minLength:"1" maxLength:"128"`
	Version    int             `json:"version" min:"1" doc:"Increases with each change; the highest one counts."`
	Definition json.RawMessage `json:"definition,omitempty" type:"object" doc:"The flag in flagd's JSON; none: it is removed."`
	Removed    bool            `json:"removed,omitempty"`
}

// AnnounceFlags asks for the flags to be told again, because a function is new that evaluates them.
type AnnounceFlags struct {
	Cursor string `json:"cursor,omitempty" maxLength:"1024" doc:"Where the next portion begins; none: at the first flag."`
}

// ApplyFlagChange asks for a scheduled change of a flag, which is due.
type ApplyFlagChange struct {
	Key      string    `json:"key" minLength:"1" maxLength:"128"`
	ChangeID string    `json:"change_id" minLength:"1" maxLength:"128"`
	Due      time.Time `json:"due"`
}

var exFlag = json.RawMessage(
	`{"state":"ENABLED","variants":{"off":false,"on":true},"defaultVariant":"off",` +
		`"targeting":{"if":[{"ends_with":[{"var":"email"},"@example.com"]},"on",null]}}`)

// The events of the function flags.
var (
	FlagsChanged = Define(kit, "flags.changed", 1, Fact,
		"A feature flag was added, changed or removed, or is told again. The event has the whole flag, so a consumer needs "+
			"only the latest one.",
		ChangedFlag{Key: "new-checkout", Version: 3, Removed: true, Definition: exFlag},
		ChangedFlag{Key: "new-checkout", Version: 2, Definition: exFlag},
		ChangedFlag{Key: "new-checkout", Version: 3, Removed: true})

	FlagsAnnounce = Define(kit, "flags.announce", 1, Command,
		"Tell of a portion of the feature flags again.",
		AnnounceFlags{Cursor: "WyJuZXctY2hlY2tvdXQiXQ"},
		AnnounceFlags{})

	FlagsApply = Define(kit, "flags.apply", 1, Command,
		"Make a scheduled change of a feature flag. It is not made when the flag has changed since it was scheduled.",
		ApplyFlagChange{Key: "new-checkout", ChangeID: exTimer, Due: exTime})
)
