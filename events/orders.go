package events

import (
	"time"

	"github.com/ebb-dev/ebb/infra/event"
)

// OrderLine is a quantity of one product at the price of the order.
type OrderLine struct {
	ProductID string `json:"product_id" minLength:"1" maxLength:"128"`
	Quantity  int    `json:"quantity" min:"1" max:"1000000"`
	UnitPrice Money  `json:"unit_price"`
	Name      string `json:"name,omitempty" maxLength:"500" doc:"The product's name at the time of the order."`
}

// PlacedOrder is a new order.
type PlacedOrder struct {
	OrderID    string      `json:"order_id" minLength:"1" maxLength:"128"`
	CustomerID string      `json:"customer_id" minLength:"1" maxLength:"128"`
	Lines      []OrderLine `json:"lines" minLength:"1" maxLength:"1000"`
	Total      Money       `json:"total"`
	PlacedAt   time.Time   `json:"placed_at"`
}

// ConfirmedOrder is an order that is paid for.
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
	Code        string    `json:"code,omitempty" maxLength:"100" doc:"For programs: out_of_stock, card_declined ..."`
	CancelledAt time.Time `json:"cancelled_at"`
}

// OrderDeadlinePassed names the step of an order's saga whose deadline has passed.
type OrderDeadlinePassed struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
	Step    string `json:"step,omitempty" maxLength:"100" doc:"Missing: the whole saga."`
}

// The commands of orders to itself.
var (
	OrderDeadline = event.Define(namespace, "orders.deadline", 1, event.Command,
		"Expire a step of an order's saga unless it is done. The clock publishes it when it is due.",
		OrderDeadlinePassed{OrderID: exOrder, Step: "authorize"},
		OrderDeadlinePassed{OrderID: exOrder})
)

// The events of orders.
var (
	OrderPlaced = event.Define(namespace, "orders.placed", 1, event.Fact, "A customer placed an order. It ends with "+
		"orders.confirmed or orders.cancelled.",
		PlacedOrder{
			OrderID: exOrder, CustomerID: exUser, Total: exTotal, PlacedAt: exTime,
			Lines: []OrderLine{{ProductID: exProduct, Quantity: 2, UnitPrice: exPrice, Name: "Notes on the Analytical Engine"}},
		},
		PlacedOrder{
			OrderID: exOrder, CustomerID: exUser, Total: exTotal, PlacedAt: exTime,
			Lines: []OrderLine{{ProductID: exProduct, Quantity: 2, UnitPrice: exPrice}},
		})

	OrderConfirmed = event.Define(namespace, "orders.confirmed", 1, event.Fact, "An order is charged, and its stock is "+
		"about to be shipped. This is final.",
		ConfirmedOrder{OrderID: exOrder, CustomerID: exUser, Total: exTotal, ConfirmedAt: exTime})

	OrderCancelled = event.Define(namespace, "orders.cancelled", 1, event.Fact, "An order was undone and cancelled, "+
		"with the reason. This is final.",
		CancelledOrder{
			OrderID: exOrder, CustomerID: exUser, Reason: "the card was declined", Code: "card_declined", CancelledAt: exTime,
		},
		CancelledOrder{OrderID: exOrder, CustomerID: exUser, Reason: "the card was declined", CancelledAt: exTime})
)
