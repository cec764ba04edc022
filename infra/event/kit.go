package event

import "time"

// kit is the namespace of the kit's own types.
var kit = NewNamespace("dev.ebb", "https://ebb.dev/schemas/")

// KitTypes returns the kit's own event types, sorted by name: what the clock and the archive are asked and emit.
func KitTypes() []*Info { return kit.Types() }

// The values that the examples of the kit's types share.
const (
	exTicket = "01920000-0000-7000-8000-000000000003"
	exTimer  = "01920000-0000-7000-8000-000000000006"
	exReplay = "01920000-0000-7000-8000-000000000007"
)

var exTime = time.Date(2025, time.January, 2, 3, 4, 5, 0, time.UTC)
