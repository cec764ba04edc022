package events

import "github.com/ebb-dev/ebb/infra/event"

// ChangedProduct is the whole product after a change.
type ChangedProduct struct {
	ProductID string `json:"product_id" minLength:"1" maxLength:"128"`
	Name      string `json:"name" minLength:"1" maxLength:"500"`
	Price     Money  `json:"price"`
	Version   int    `json:"version" min:"1" doc:"Increases with each change; the highest one counts."`
	Deleted   bool   `json:"deleted,omitempty" doc:"It is no longer for sale."`
	Created   bool   `json:"created,omitempty" doc:"It is new."`
}

// The events of catalog.
var (
	ProductChanged = event.Define(namespace, "catalog.product-changed", 1, event.Fact,
		"A product was added, changed or removed. The event has the whole product, so a consumer needs only the latest one.",
		ChangedProduct{
			ProductID: exProduct, Name: "Notes on the Analytical Engine", Price: exPrice, Version: 1, Created: true,
		},
		ChangedProduct{ProductID: exProduct, Name: "Notes on the Analytical Engine", Price: exPrice, Version: 2},
		ChangedProduct{
			ProductID: exProduct, Name: "Notes on the Analytical Engine", Price: exPrice, Version: 3, Deleted: true,
		})
)
