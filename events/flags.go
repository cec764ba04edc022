package events

import (
	"encoding/json"

	"github.com/ebb-dev/ebb/infra/event"
)

// ChangedFlag is a feature flag after a change.
type ChangedFlag struct {
	Flag    string          `json:"flag" minLength:"1" maxLength:"200"`
	Enabled bool            `json:"enabled"`
	Value   json.RawMessage `json:"value,omitempty" doc:"Any JSON; missing: the flag is only on or off."`
}

// The events of flags.
var (
	FlagChanged = event.Define(namespace, "flags.changed", 1, event.Fact, "A feature flag changed.",
		ChangedFlag{Flag: "express-checkout", Enabled: true, Value: json.RawMessage(`{"percentage":25}`)},
		ChangedFlag{Flag: "express-checkout", Enabled: false})
)
