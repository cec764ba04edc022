package events

import (
	"time"

	"github.com/ebb-dev/ebb/infra/event"
)

// OrderLine is a quantity of one product at the price it was ordered for.
type OrderLine struct {
	ProductID string `json:"product_id" minLength:"1" maxLength:"128"`
	Quantity  int    `json:"quantity" min:"1" max:"1000000"`
	UnitPrice Money  `json:"unit_price"`
	Name      string `json:"name,omitempty" maxLength:"500" doc:"What the product was called when it was ordered."`
}

// PlacedOrder is an order whose saga has begun.
type PlacedOrder struct {
	OrderID    string      `json:"order_id" minLength:"1" maxLength:"128"`
	CustomerID string      `json:"customer_id" minLength:"1" maxLength:"128"`
	Lines      []OrderLine `json:"lines" minLength:"1" maxLength:"1000"`
	Total      Money       `json:"total"`
	PlacedAt   time.Time   `json:"placed_at"`
}

// ConfirmedOrder is an order that is paid and on its way.
type ConfirmedOrder struct {
	OrderID     string    `json:"order_id" minLength:"1" maxLength:"128"`
	CustomerID  string    `json:"customer_id" minLength:"1" maxLength:"128"`
	Total       Money     `json:"total"`
	ConfirmedAt time.Time `json:"confirmed_at"`
}

// CancelledOrder is an order that holds no money and no stock.
type CancelledOrder struct {
	OrderID     string    `json:"order_id" minLength:"1" maxLength:"128"`
	CustomerID  string    `json:"customer_id" minLength:"1" maxLength:"128"`
	Reason      string    `json:"reason" minLength:"1" maxLength:"2000" doc:"For people."`
	Code        string    `json:"code,omitempty" maxLength:"100" doc:"For programs: out_of_stock, card_declined, deadline ..."`
	CancelledAt time.Time `json:"cancelled_at"`
}

// OrderDeadlinePassed is a step of an order's saga that may have taken too long.
type OrderDeadlinePassed struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
	Step    string `json:"step,omitempty" maxLength:"100" doc:"None: the whole saga."`
}

// What orders asks of itself.
var (
	OrderDeadline = event.Define(namespace, "orders.deadline", 1, event.Command,
		"Give up a step of an order's saga unless it is done by now. Orders has the clock send it.",
		OrderDeadlinePassed{OrderID: exOrder, Step: "authorize"},
		OrderDeadlinePassed{OrderID: exOrder})
)

// What orders says.
var (
	OrderPlaced = event.Define(namespace, "orders.placed", 1, event.Fact, "A customer has ordered; whether they get it is not known yet.",
		PlacedOrder{
			OrderID: exOrder, CustomerID: exUser, Total: exTotal, PlacedAt: exTime,
			Lines: []OrderLine{{ProductID: exProduct, Quantity: 2, UnitPrice: exPrice, Name: "Notes on the Analytical Engine"}},
		},
		PlacedOrder{
			OrderID: exOrder, CustomerID: exUser, Total: exTotal, PlacedAt: exTime,
			Lines: []OrderLine{{ProductID: exProduct, Quantity: 2, UnitPrice: exPrice}},
		})

	OrderConfirmed = event.Define(namespace, "orders.confirmed", 1, event.Fact, "An order is charged, and its stock is leaving. It stays so.",
		ConfirmedOrder{OrderID: exOrder, CustomerID: exUser, Total: exTotal, ConfirmedAt: exTime})

	OrderCancelled = event.Define(namespace, "orders.cancelled", 1, event.Fact, "An order has ended undone, and why. It stays so.",
		CancelledOrder{OrderID: exOrder, CustomerID: exUser, Reason: "the card was declined", Code: "card_declined", CancelledAt: exTime},
		CancelledOrder{OrderID: exOrder, CustomerID: exUser, Reason: "the card was declined", CancelledAt: exTime})
)
