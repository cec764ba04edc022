package inventory

import (
	_ "embed"
	"net/http"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/rpc"
	"github.com/ebb-dev/ebb/infra/store"
)

//go:embed inventoryv1/inventory.binpb
var schema []byte

// New declares the inventory function.
func New(env function.Env) (*function.Function, error) {
	f := function.New("inventory", env)
	i := &inventory{
		stock:        function.Collection[Stock](f, "stock", store.Entity, store.Admin{}),
		reservations: function.Collection[Reservation](f, "reservations", store.Entity, store.Admin{ReadOnly: true}),
	}
	function.Serve(f, function.Operation{
		Method: http.MethodGet, Path: "/api/stock/{product_id}", Access: function.Public,
		Summary: "Show the stock of a product",
	}, i.get)
	function.Serve(f, function.Operation{
		Method: http.MethodPut, Path: "/api/stock/{product_id}", Access: function.Only(auth.RoleAdmin),
		Summary:     "Set the available stock of a product",
		Description: "Reserved and shipped stock stay the same; initial is the sum of all three.",
	}, i.put)
	rpc.Serve(f, "ebb.inventory.v1.InventoryService", schema)
	function.Prefetch(f, func(e ce.Event) []store.Key { return []store.Key{i.reservations.Key(e.Subject())} })
	function.On(f, events.InventoryReserve, i.reserve)
	function.On(f, events.InventoryRelease, i.release)
	function.On(f, events.InventoryShip, i.ship)
	function.Emits(f, events.InventoryReserved, events.InventoryRefused, events.InventoryReleased,
		events.InventoryShipped, events.StockChanged)
	return f, nil
}
