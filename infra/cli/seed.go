package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/ebb-dev/ebb/functions/catalog"
)

// seed adds the sample products to a catalog that has none, through the API like anybody else.
func seed(ctx context.Context, c *client) error {
	var listed struct {
		Items []any `json:"items"`
	}
	if err := c.send(ctx, http.MethodGet, "/api/products?limit=1", nil, &listed); err != nil || len(listed.Items) > 0 {
		return err
	}
	for _, s := range catalog.Samples() {
		if err := c.addSample(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return nil
}

func (c *client) addSample(ctx context.Context, s catalog.Sample) error {
	var made struct {
		ID string `json:"id"`
	}
	if err := c.call(ctx, http.MethodPost, "/api/products", map[string]any{"name": s.Name, "price": s.Price}, &made); err != nil {
		return err
	}
	// Inventory may want to hear of the product first.
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		err := c.call(ctx, http.MethodPut, "/api/stock/"+made.ID, map[string]any{"available": s.Available}, nil)
		if r, ok := err.(refusal); !ok || r.status != http.StatusNotFound || wait > 2*time.Second {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}
