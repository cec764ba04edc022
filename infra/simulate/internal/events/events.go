// Package events has the event types of the product that the tests of package simulate simulate.
package events

import (
	"time"

	"github.com/ebb-dev/ebb/infra/event"
)

// Money is an amount in minor units of a currency.
type Money struct {
	Amount   int64  `json:"amount" min:"0"`
	Currency string `json:"currency" pattern:"^[A-Z]{3}$"`
}

// ConfirmedOrder is the data of OrderConfirmed.
type ConfirmedOrder struct {
	OrderID     string    `json:"order_id" minLength:"1" maxLength:"128"`
	CustomerID  string    `json:"customer_id" minLength:"1" maxLength:"128"`
	Total       Money     `json:"total"`
	ConfirmedAt time.Time `json:"confirmed_at"`
}

// ChangedUser is the data of UserChanged.
type ChangedUser struct {
	UserID string `json:"user_id" minLength:"1" maxLength:"128"`
	Name   string `json:"name" minLength:"1" maxLength:"200"`
	Email  string `json:"email" format:"email"`
}

var namespace = event.NewNamespace("com.example", "https://example.com/schemas/")

// The event types.
var (
	OrderConfirmed = event.Define(namespace, "orders.confirmed", 1, event.Fact, "An order is paid.", ConfirmedOrder{
		OrderID: "order-1", CustomerID: "customer-1", Total: Money{Amount: 3998, Currency: "EUR"},
		ConfirmedAt: time.Date(2025, time.January, 2, 3, 4, 5, 0, time.UTC),
	})

	UserChanged = event.Define(namespace, "users.changed", 1, event.Fact, "A user was renamed.",
		ChangedUser{UserID: "user-1", Name: "Ada King", Email: "ada.king@example.com"})
)
