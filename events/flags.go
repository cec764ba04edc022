package events

import (
	"encoding/json"

	"github.com/ebb-dev/ebb/infra/event"
)

// ChangedFlag is a feature flag as it is after a change.
type ChangedFlag struct {
	Flag    string          `json:"flag" minLength:"1" maxLength:"200"`
	Enabled bool            `json:"enabled"`
	Value   json.RawMessage `json:"value,omitempty" doc:"Any JSON; none: the flag is only on or off."`
}

// What flags says.
var (
	FlagChanged = event.Define(namespace, "flags.changed", 1, event.Fact, "A feature flag is another now.",
		ChangedFlag{Flag: "express-checkout", Enabled: true, Value: json.RawMessage(`{"percentage":25}`)},
		ChangedFlag{Flag: "express-checkout", Enabled: false})
)
