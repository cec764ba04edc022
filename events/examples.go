package events

import "time"

// The values of all examples: one customer orders two books.
const (
	exUser    = "01920000-0000-7000-8000-000000000001"
	exOrder   = "01920000-0000-7000-8000-000000000003"
	exNotice  = "01920000-0000-7000-8000-000000000005"
	exSession = "01920000-0000-7000-8000-000000000008"
)

var exTime = time.Date(2025, time.January, 2, 3, 4, 5, 0, time.UTC)
