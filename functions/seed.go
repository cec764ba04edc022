package functions

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/functions/catalog"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/system"
)

// seed adds the sample products to a catalog that has none.
func seed(ctx context.Context, call system.Caller) error {
	var listed struct {
		Items []any `json:"items"`
	}
	if err := call(ctx, http.MethodGet, "/api/products?limit=1", nil, &listed); err != nil || len(listed.Items) > 0 {
		return err
	}
	for _, s := range catalog.Samples() {
		if err := addSample(ctx, call, s); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return nil
}

func addSample(ctx context.Context, call system.Caller, s catalog.Sample) error {
	var made struct {
		ID string `json:"id"`
	}
	product := map[string]any{"name": s.Name, "price": s.Price}
	if err := call(ctx, http.MethodPost, "/api/products", product, &made); err != nil {
		return err
	}
	// Inventory answers 404 until it has consumed the event of the new product.
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		err := call(ctx, http.MethodPut, "/api/stock/"+made.ID, map[string]any{"available": s.Available}, nil)
		if !fault.Is(err, fault.NotFound) || wait > 2*time.Second {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}
