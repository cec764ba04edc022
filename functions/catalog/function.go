package catalog

import (
	_ "embed"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/rpc"
	"github.com/ebb-dev/ebb/infra/store"
)

//go:embed catalogv1/catalog.binpb
var schema []byte

type catalog struct {
	products *store.Collection[product]
}

// New declares the catalog function.
func New(env function.Env) (*function.Function, error) {
	f := function.New("catalog", env)
	c := &catalog{products: function.Collection[product](f, "products", store.Entity, store.On("deleted"),
		store.Admin{})}
	function.Emits(f, events.ProductChanged)
	function.Serve(f, listProducts, c.list)
	function.Serve(f, getProduct, c.get)
	function.Serve(f, addProduct, c.add)
	function.Serve(f, changeProduct, c.change)
	function.Serve(f, removeProduct, c.remove)
	rpc.Serve(f, "ebb.catalog.v1.CatalogService", schema)
	return f, nil
}
