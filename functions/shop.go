package functions

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/catalog"
	"github.com/ebb-dev/ebb/functions/gateway"
	"github.com/ebb-dev/ebb/functions/inventory"
	"github.com/ebb-dev/ebb/functions/orders"
	"github.com/ebb-dev/ebb/functions/payments"
	"github.com/ebb-dev/ebb/functions/views"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/system"
)

// init adds the shop. Without this file and the functions that it imports, the product is the kit's own functions.
func init() {
	shop = addition{
		functions: []system.Definition{
			{Name: "catalog", New: catalog.New},
			{Name: "inventory", New: inventory.New, Rerun: inventory.Rerun()},
			{Name: "orders", New: orders.New, Rerun: orders.Rerun()},
			{Name: "payments", New: payments.New, Rerun: payments.Rerun()},
			{Name: "views", New: views.New},
		},
		parts: []gateway.Part{
			{Name: "user", Path: "/api/users/{subject}"},
			{Name: "orders", Path: "/api/orders"},
			{Name: "views", Path: "/api/views/orders"},
		},
		cached:  []event.Typed{events.ProductChanged},
		letters: letters,
		seed:    addSamples,
	}
}

// addSamples adds the sample products to a catalog that has none.
func addSamples(ctx context.Context, call system.Caller) error {
	var listed struct {
		Items []any `json:"items"`
	}
	if err := call(ctx, http.MethodGet, "/api/products?limit=1", nil, &listed); err != nil || len(listed.Items) > 0 {
		return err
	}
	for _, s := range catalog.Samples() {
		if err := addSample(ctx, call, s); err != nil {
			return fmt.Errorf("add the product %q: %w", s.Name, err)
		}
	}
	return nil
}

func addSample(ctx context.Context, call system.Caller, s catalog.Sample) error {
	var created struct {
		ID string `json:"id"`
	}
	body := map[string]any{"name": s.Name, "price": s.Price}
	if err := call(ctx, http.MethodPost, "/api/products", body, &created); err != nil {
		return err
	}
	// Inventory may not have the product yet.
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		err := call(ctx, http.MethodPut, "/api/stock/"+created.ID, map[string]any{"available": s.Available}, nil)
		if system.StatusOf(err) != http.StatusNotFound || wait > 2*time.Second {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}
