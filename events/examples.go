package events

import "time"

// What the examples of all types speak of: one customer who orders two books.
const (
	exUser    = "01920000-0000-7000-8000-000000000001"
	exProduct = "01920000-0000-7000-8000-000000000002"
	exOrder   = "01920000-0000-7000-8000-000000000003"
	exPayment = "01920000-0000-7000-8000-000000000004"
	exNotice  = "01920000-0000-7000-8000-000000000005"
	exSession = "01920000-0000-7000-8000-000000000008"
)

var (
	exPrice = Money{Amount: 1999, Currency: "EUR"}
	exTotal = Money{Amount: 3998, Currency: "EUR"}
	exTime  = time.Date(2025, time.January, 2, 3, 4, 5, 0, time.UTC)
)
