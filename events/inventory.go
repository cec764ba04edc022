package events

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
	InventoryReserve = define("inventory.reserve", 1, Command,
		"Keep stock for an order: all its lines or none. Answered by inventory.reserved or inventory.refused.",
		ReserveStock{OrderID: exOrder, Lines: exStock})

	InventoryRelease = define("inventory.release", 1, Command,
		"Give an order's reserved stock back, or promise never to reserve any. Answered by inventory.released.",
		ReleaseStock{OrderID: exOrder, Reason: "card declined"},
		ReleaseStock{OrderID: exOrder})

	InventoryShip = define("inventory.ship", 1, Command,
		"Let an order's reserved stock leave. Answered by inventory.shipped.",
		ShipStock{OrderID: exOrder})
)

// What inventory says.
var (
	InventoryReserved = define("inventory.reserved", 1, Fact, "All lines of an order are reserved.",
		ReservedStock{OrderID: exOrder, Lines: exStock})

	InventoryRefused = define("inventory.refused", 1, Fact, "Nothing was reserved for an order, and why.",
		RefusedStock{OrderID: exOrder, Reason: "not enough in stock", ProductID: exProduct},
		RefusedStock{OrderID: exOrder, Reason: "not enough in stock"})

	InventoryReleased = define("inventory.released", 1, Fact, "An order holds no stock.",
		ReleasedStock{OrderID: exOrder})

	InventoryShipped = define("inventory.shipped", 1, Fact, "An order's stock has left, once.",
		ShippedStock{OrderID: exOrder})

	StockChanged = define("inventory.stock-changed", 1, Fact,
		"The stock of a product is another now. It carries all four counts, so the latest is all a reader needs.",
		ChangedStock{ProductID: exProduct, Available: 95, Reserved: 2, Shipped: 3, Initial: 100})
)
