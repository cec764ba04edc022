package functions

import (
	_ "embed"
	"fmt"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/notifications"
)

var (
	//go:embed letters/order-confirmed.txt
	confirmedText string
	//go:embed letters/order-cancelled.txt
	cancelledText string
)

// letters are what the shop writes to its customers.
var letters = []notifications.Letter{
	notifications.On(
		events.OrderConfirmed,
		"order-confirmed",
		confirmedText,
		func(e events.ConfirmedOrder) notifications.Message {
			return notifications.Message{
				UserID:  e.CustomerID,
				OrderID: e.OrderID,
				Data:    orderFacts{OrderID: e.OrderID, Total: price(e.Total)},
			}
		},
	),
	notifications.On(
		events.OrderCancelled,
		"order-cancelled",
		cancelledText,
		func(e events.CancelledOrder) notifications.Message {
			return notifications.Message{
				UserID:  e.CustomerID,
				OrderID: e.OrderID,
				Data:    orderFacts{OrderID: e.OrderID, Reason: e.Reason},
			}
		},
	),
}

// orderFacts are what letters about an order speak of.
type orderFacts struct{ OrderID, Total, Reason string }

// decimals are the currencies whose minor unit is not a hundredth (ISO 4217).
var decimals = map[string]int{
	"BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3,
	"BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0,
	"PYG": 0, "RWF": 0, "UGX": 0, "VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
}

// price formats an amount for people: 39.98 EUR.
func price(m events.Money) string {
	n, special := decimals[m.Currency]
	if !special {
		n = 2
	}
	if n == 0 {
		return fmt.Sprintf("%d %s", m.Amount, m.Currency)
	}
	digits := fmt.Sprintf("%0*d", n+1, m.Amount)
	whole := len(digits) - n
	return digits[:whole] + "." + digits[whole:] + " " + m.Currency
}
