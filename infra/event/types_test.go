package event_test

import (
	"encoding/json"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
)

// examples is the namespace of the types that these tests decode and encode. Together they have every kind of field
// that a product's types have.
var examples = event.NewNamespace("com.example", "https://example.com/schemas/")

type money struct {
	Amount   int64  `json:"amount" min:"0" max:"1000000000000000"`
	Currency string `json:"currency" pattern:"^[A-Z]{3}$"`
}

type orderLine struct {
	ProductID string `json:"product_id" minLength:"1" maxLength:"128"`
	Quantity  int    `json:"quantity" min:"1" max:"1000000"`
	UnitPrice money  `json:"unit_price"`
	Name      string `json:"name,omitempty" maxLength:"500"`
}

type placedOrder struct {
	OrderID    string      `json:"order_id" minLength:"1" maxLength:"128"`
	CustomerID string      `json:"customer_id" minLength:"1" maxLength:"128"`
	Lines      []orderLine `json:"lines" minLength:"1" maxLength:"1000"`
	Total      money       `json:"total"`
	PlacedAt   time.Time   `json:"placed_at"`
}

type orderDeadlinePassed struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
	Step    string `json:"step,omitempty" maxLength:"100"`
}

type stockLine struct {
	ProductID string `json:"product_id" minLength:"1" maxLength:"128"`
	Quantity  int    `json:"quantity" min:"1" max:"1000000"`
}

type reserveStock struct {
	OrderID string      `json:"order_id" minLength:"1" maxLength:"128"`
	Lines   []stockLine `json:"lines" minLength:"1" maxLength:"1000"`
}

type shipStock struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
}

// shippedStock has the fields of shipStock and is another type.
type shippedStock struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
}

type authorizePayment struct {
	OrderID    string `json:"order_id" minLength:"1" maxLength:"128"`
	CustomerID string `json:"customer_id" minLength:"1" maxLength:"128"`
	Amount     money  `json:"amount"`
	Token      string `json:"token" minLength:"1" maxLength:"500"`
}

type registeredUser struct {
	UserID string   `json:"user_id" minLength:"1" maxLength:"128"`
	Name   string   `json:"name" minLength:"1" maxLength:"200"`
	Email  string   `json:"email" format:"email" maxLength:"254"`
	Roles  []string `json:"roles,omitempty"`
}

type changedFlag struct {
	Flag    string          `json:"flag" minLength:"1" maxLength:"200"`
	Enabled bool            `json:"enabled"`
	Value   json.RawMessage `json:"value,omitempty"`
}

var placedAt = time.Date(2025, time.January, 2, 3, 4, 5, 0, time.UTC)

var (
	orderPlaced = event.Define(examples, "orders.placed", 1, event.Fact, "An order was placed.",
		placedOrder{
			OrderID: "order-1", CustomerID: "customer-1", Total: money{3998, "EUR"}, PlacedAt: placedAt,
			Lines: []orderLine{{ProductID: "product-1", Quantity: 2, UnitPrice: money{1999, "EUR"}, Name: "Tide table"}},
		},
		placedOrder{
			OrderID: "order-1", CustomerID: "customer-1", Total: money{3998, "EUR"}, PlacedAt: placedAt,
			Lines: []orderLine{{ProductID: "product-1", Quantity: 2, UnitPrice: money{1999, "EUR"}}},
		})

	orderDeadline = event.Define(examples, "orders.deadline", 1, event.Command, "Give up a step of an order.",
		orderDeadlinePassed{OrderID: "order-1", Step: "authorize"}, orderDeadlinePassed{OrderID: "order-1"})

	stockReserve = event.Define(examples, "stock.reserve", 1, event.Command, "Keep stock for an order.",
		reserveStock{OrderID: "order-1", Lines: []stockLine{{ProductID: "product-1", Quantity: 2}}})

	stockShip = event.Define(examples, "stock.ship", 1, event.Command, "Ship the stock of an order.",
		shipStock{OrderID: "order-1"})

	_ = event.Define(examples, "stock.shipped", 1, event.Fact, "The stock of an order was shipped.",
		shippedStock{OrderID: "order-1"})

	paymentAuthorize = event.Define(examples, "payments.authorize", 1, event.Command, "Authorize the payment of an order.",
		authorizePayment{OrderID: "order-1", CustomerID: "customer-1", Amount: money{3998, "EUR"}, Token: "tok_ok"})

	userRegistered = event.Define(examples, "users.registered", 1, event.Fact, "A user signed up.",
		registeredUser{UserID: "user-1", Name: "Ada Lovelace", Email: "ada@example.com", Roles: []string{"customer"}},
		registeredUser{UserID: "user-1", Name: "Ada Lovelace", Email: "ada@example.com"})

	flagChanged = event.Define(examples, "flags.changed", 1, event.Fact, "A feature flag was changed.",
		changedFlag{Flag: "express-checkout", Enabled: true, Value: json.RawMessage(`{"percentage":25}`)},
		changedFlag{Flag: "express-checkout"})
)

// catalogue has the types of the tests and the kit's own.
var catalogue = event.NewCatalogue(append(examples.Types(), event.KitTypes()...)...)

// order is the data of an orders.placed event.
const order = `{"order_id":"o","customer_id":"c",` +
	`"lines":[{"product_id":"p","quantity":2,"unit_price":{"amount":5,"currency":"EUR"}}],` +
	`"total":{"amount":10,"currency":"EUR"},"placed_at":"2025-01-02T05:04:05+02:00"}`

// message returns an event of the type with the data, which need not be valid.
func message(typ, data string) ce.Event {
	e := ce.New()
	e.SetID("1")
	e.SetSource("/functions/test")
	e.SetType(typ)
	e.SetDataContentType(event.ContentType)
	e.DataEncoded = []byte(data)
	return e
}
