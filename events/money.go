package events

// Money is an amount in minor units (cents) of an ISO 4217 currency.
type Money struct {
	Amount   int64  `json:"amount" min:"0" max:"1000000000000000" doc:"In minor units of the currency."`
	Currency string `json:"currency" pattern:"^[A-Z]{3}$" doc:"ISO 4217 code."`
}

// The examples of the shop's types are about one customer who orders two books.
const (
	exProduct = "01920000-0000-7000-8000-000000000002"
	exPayment = "01920000-0000-7000-8000-000000000004"
)

var (
	exPrice = Money{Amount: 1999, Currency: "EUR"}
	exTotal = Money{Amount: 3998, Currency: "EUR"}
)
