package event

import "time"

// kit is the namespace of the kit's own types.
var kit = NewNamespace("dev.ebb", "https://ebb.dev/schemas/")

// KitTypes returns the kit's own event types, sorted by name: those of the clock, of the archive and of access.
func KitTypes() []*Info { return kit.Types() }

// The values that the examples of the kit's types share.
const (
	exUser    = "01920000-0000-7000-8000-000000000001"
	exTicket  = "01920000-0000-7000-8000-000000000003"
	exTimer   = "01920000-0000-7000-8000-000000000006"
	exReplay  = "01920000-0000-7000-8000-000000000007"
	exSession = "01920000-0000-7000-8000-000000000008"
)

var exTime = time.Date(2025, time.January, 2, 3, 4, 5, 0, time.UTC)
