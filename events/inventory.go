package events

import "github.com/ebb-dev/ebb/infra/event"

// StockLine is a quantity of one product.
type StockLine struct {
	ProductID string `json:"product_id" minLength:"1" maxLength:"128"`
	Quantity  int    `json:"quantity" min:"1" max:"1000000"`
}

// ReserveStock asks for stock to be kept for an order.
type ReserveStock struct {
	OrderID string      `json:"order_id" minLength:"1" maxLength:"128"`
	Lines   []StockLine `json:"lines" minLength:"1" maxLength:"1000"`
}

// ReleaseStock asks for an order's stock to be given back.
type ReleaseStock struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
	Reason  string `json:"reason,omitempty" maxLength:"2000"`
}

// ShipStock asks for an order's stock to leave for good.
type ShipStock struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
}

// ReservedStock is stock that is kept for an order.
type ReservedStock struct {
	OrderID string      `json:"order_id" minLength:"1" maxLength:"128"`
	Lines   []StockLine `json:"lines" minLength:"1" maxLength:"1000"`
}

// RefusedStock is a reservation that could not be made.
type RefusedStock struct {
	OrderID   string `json:"order_id" minLength:"1" maxLength:"128"`
	Reason    string `json:"reason" minLength:"1" maxLength:"2000"`
	ProductID string `json:"product_id,omitempty" maxLength:"128" doc:"The first product there was not enough of."`
}

// ReleasedStock is a reservation that is no more.
type ReleasedStock struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
}

// ShippedStock is an order whose stock has left.
type ShippedStock struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
}

// ChangedStock is the stock of a product; initial = available + reserved + shipped, always.
type ChangedStock struct {
	ProductID string `json:"product_id" minLength:"1" maxLength:"128"`
	Available int    `json:"available" min:"0" doc:"May be ordered."`
	Reserved  int    `json:"reserved" min:"0" doc:"Kept for orders under way."`
	Shipped   int    `json:"shipped" min:"0" doc:"Has left."`
	Initial   int    `json:"initial" min:"0" doc:"All there ever was."`
}

var exStock = []StockLine{{ProductID: exProduct, Quantity: 2}}

// What inventory is asked.
var (
	InventoryReserve = event.Define(namespace, "inventory.reserve", 1, event.Command,
		"Keep stock for an order: all its lines or none. Answered by inventory.reserved or inventory.refused.",
		ReserveStock{OrderID: exOrder, Lines: exStock})

	InventoryRelease = event.Define(namespace, "inventory.release", 1, event.Command,
		"Give an order's reserved stock back, or promise never to reserve any. Answered by inventory.released.",
		ReleaseStock{OrderID: exOrder, Reason: "card declined"},
		ReleaseStock{OrderID: exOrder})

	InventoryShip = event.Define(namespace, "inventory.ship", 1, event.Command,
		"Let an order's reserved stock leave. Answered by inventory.shipped.",
		ShipStock{OrderID: exOrder})
)

// What inventory says.
var (
	InventoryReserved = event.Define(namespace, "inventory.reserved", 1, event.Fact, "All lines of an order are reserved.",
		ReservedStock{OrderID: exOrder, Lines: exStock})

	InventoryRefused = event.Define(namespace, "inventory.refused", 1, event.Fact, "Nothing was reserved for an order, and why.",
		RefusedStock{OrderID: exOrder, Reason: "not enough in stock", ProductID: exProduct},
		RefusedStock{OrderID: exOrder, Reason: "not enough in stock"})

	InventoryReleased = event.Define(namespace, "inventory.released", 1, event.Fact, "An order holds no stock.",
		ReleasedStock{OrderID: exOrder})

	InventoryShipped = event.Define(namespace, "inventory.shipped", 1, event.Fact, "An order's stock has left, once.",
		ShippedStock{OrderID: exOrder})

	StockChanged = event.Define(namespace, "inventory.stock-changed", 1, event.Fact,
		"The stock of a product is another now. It carries all four counts, so the latest is all a reader needs.",
		ChangedStock{ProductID: exProduct, Available: 95, Reserved: 2, Shipped: 3, Initial: 100})
)
