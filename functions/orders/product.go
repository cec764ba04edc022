package orders

import (
	"context"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function"
)

// product is what orders knows of a product of the catalogue.
type product struct {
	Name    string       `json:"name"`
	Price   events.Money `json:"price"`
	Version int          `json:"version"`
	Deleted bool         `json:"deleted,omitempty"`
}

// productChanged follows the catalogue, and never back.
func (s *orders) productChanged(ctx context.Context, tx *function.Tx, e events.ChangedProduct) error {
	p, _, err := s.products.Find(ctx, tx, e.ProductID)
	if err != nil || p.Version >= e.Version {
		return err
	}
	return s.products.Put(ctx, tx, e.ProductID, product{Name: e.Name, Price: e.Price, Version: e.Version, Deleted: e.Deleted})
}
