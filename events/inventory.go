package events

import "github.com/ebb-dev/ebb/infra/event"

// StockLine is a quantity of one product.
type StockLine struct {
	ProductID string `json:"product_id" minLength:"1" maxLength:"128"`
	Quantity  int    `json:"quantity" min:"1" max:"1000000"`
}

// ReserveStock asks inventory to reserve stock for an order.
type ReserveStock struct {
	OrderID string      `json:"order_id" minLength:"1" maxLength:"128"`
	Lines   []StockLine `json:"lines" minLength:"1" maxLength:"1000"`
}

// ReleaseStock asks inventory to release an order's stock.
type ReleaseStock struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
	Reason  string `json:"reason,omitempty" maxLength:"2000"`
}

// ShipStock asks inventory to ship an order's stock.
type ShipStock struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
}

// ReservedStock is the stock reserved for an order.
type ReservedStock struct {
	OrderID string      `json:"order_id" minLength:"1" maxLength:"128"`
	Lines   []StockLine `json:"lines" minLength:"1" maxLength:"1000"`
}

// RefusedStock is a reservation that could not be made.
type RefusedStock struct {
	OrderID   string `json:"order_id" minLength:"1" maxLength:"128"`
	Reason    string `json:"reason" minLength:"1" maxLength:"2000"`
	ProductID string `json:"product_id,omitempty" maxLength:"128" doc:"The first product without enough stock."`
}

// ReleasedStock is an order whose stock was released.
type ReleasedStock struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
}

// ShippedStock is an order whose stock was shipped.
type ShippedStock struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
}

// ChangedStock is the stock of a product. Always initial = available + reserved + shipped.
type ChangedStock struct {
	ProductID string `json:"product_id" minLength:"1" maxLength:"128"`
	Available int    `json:"available" min:"0" doc:"May be ordered."`
	Reserved  int    `json:"reserved" min:"0" doc:"Held for orders that are not shipped yet."`
	Shipped   int    `json:"shipped" min:"0" doc:"Has left the warehouse."`
	Initial   int    `json:"initial" min:"0" doc:"The sum of the other three."`
}

var exStock = []StockLine{{ProductID: exProduct, Quantity: 2}}

// The commands to inventory.
var (
	InventoryReserve = event.Define(namespace, "inventory.reserve", 1, event.Command,
		"Reserve stock for an order: all its lines or none. Answered by inventory.reserved or inventory.refused.",
		ReserveStock{OrderID: exOrder, Lines: exStock})

	InventoryRelease = event.Define(namespace, "inventory.release", 1, event.Command,
		"Release an order's reserved stock; a reserve that comes later reserves nothing. Answered by inventory.released.",
		ReleaseStock{OrderID: exOrder, Reason: "card declined"},
		ReleaseStock{OrderID: exOrder})

	InventoryShip = event.Define(namespace, "inventory.ship", 1, event.Command,
		"Ship an order's reserved stock. Answered by inventory.shipped.",
		ShipStock{OrderID: exOrder})
)

// The events of inventory.
var (
	InventoryReserved = event.Define(namespace, "inventory.reserved", 1, event.Fact, "All lines of an order are reserved.",
		ReservedStock{OrderID: exOrder, Lines: exStock})

	InventoryRefused = event.Define(namespace, "inventory.refused", 1, event.Fact, "No stock was reserved for an order,"+
		" with the reason.",
		RefusedStock{OrderID: exOrder, Reason: "not enough in stock", ProductID: exProduct},
		RefusedStock{OrderID: exOrder, Reason: "not enough in stock"})

	InventoryReleased = event.Define(namespace, "inventory.released", 1, event.Fact, "An order holds no stock.",
		ReleasedStock{OrderID: exOrder})

	InventoryShipped = event.Define(namespace, "inventory.shipped", 1, event.Fact, "An order's stock was shipped.",
		ShippedStock{OrderID: exOrder})

	StockChanged = event.Define(namespace, "inventory.stock-changed", 1, event.Fact,
		"The stock of a product changed. The event has all four counts, so a consumer needs only the latest one.",
		ChangedStock{ProductID: exProduct, Available: 95, Reserved: 2, Shipped: 3, Initial: 100})
)
