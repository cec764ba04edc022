package inventory

import (
	"context"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

type stockID struct {
	ProductID string `path:"product_id" minLength:"1" maxLength:"128" doc:"The product's id."`
}

type countedStock struct {
	ProductID string `path:"product_id" minLength:"1" maxLength:"128" doc:"The product's id."`
	Body      struct {
		Available int `json:"available" minimum:"0" maximum:"1000000000" doc:"May be ordered; not counting reserved stock."`
	}
}

type stockOutput struct{ Body Stock }

func (i *inventory) get(ctx context.Context, tx *function.Tx, in *stockID) (*stockOutput, error) {
	s, ok, err := i.stock.Find(ctx, tx, in.ProductID)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fault.New(fault.NotFound, "no stock is kept of product %s", in.ProductID)
	}
	return &stockOutput{Body: s}, nil
}

func (i *inventory) put(ctx context.Context, tx *function.Tx, in *countedStock) (*stockOutput, error) {
	before, ok, err := i.stock.Find(ctx, tx, in.ProductID)
	if err != nil {
		return nil, err
	}
	before.ProductID = in.ProductID
	after := before.counted(in.Body.Available)
	if ok && after == before {
		return &stockOutput{Body: after}, nil
	}
	if err := i.stock.Put(ctx, tx, in.ProductID, after); err != nil {
		return nil, err
	}
	tx.Emit(after.changed())
	return &stockOutput{Body: after}, nil
}
