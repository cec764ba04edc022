package events

import "github.com/ebb-dev/ebb/infra/event"

// ChangedProduct is a product as it is after a change.
type ChangedProduct struct {
	ProductID string `json:"product_id" minLength:"1" maxLength:"128"`
	Name      string `json:"name" minLength:"1" maxLength:"500"`
	Price     Money  `json:"price"`
	Version   int    `json:"version" min:"1" doc:"Goes up with each change; the greatest one holds."`
	Deleted   bool   `json:"deleted,omitempty" doc:"It is no longer for sale."`
	Created   bool   `json:"created,omitempty" doc:"It is new."`
}

// What catalog says.
var (
	ProductChanged = event.Define(namespace, "catalog.product-changed", 1, event.Fact,
		"A product was added, changed or taken off the catalogue. It carries the whole product, so the latest is all a reader needs.",
		ChangedProduct{ProductID: exProduct, Name: "Notes on the Analytical Engine", Price: exPrice, Version: 1, Created: true},
		ChangedProduct{ProductID: exProduct, Name: "Notes on the Analytical Engine", Price: exPrice, Version: 2},
		ChangedProduct{ProductID: exProduct, Name: "Notes on the Analytical Engine", Price: exPrice, Version: 3, Deleted: true})
)
