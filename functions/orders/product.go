package orders

import (
	"context"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function"
)

// product is the copy of a product of the catalogue.
type product struct {
	Name    string       `json:"name"`
	Price   events.Money `json:"price"`
	Version int          `json:"version"`
	Deleted bool         `json:"deleted,omitempty"`
}

// productChanged updates the copy of a product, never to an older version.
func (s *orders) productChanged(ctx context.Context, tx *function.Tx, e events.ChangedProduct) error {
	p, _, err := s.products.Find(ctx, tx, e.ProductID)
	if err != nil || p.Version >= e.Version {
		return err
	}
	next := product{Name: e.Name, Price: e.Price, Version: e.Version, Deleted: e.Deleted}
	return s.products.Put(ctx, tx, e.ProductID, next)
}
