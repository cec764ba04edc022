package payments

import (
	"context"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
)

type paymentID struct {
	ID string `path:"id" minLength:"1" maxLength:"128" doc:"The payment's id, which is the order's."`
}

type paymentOutput struct{ Body Payment }

// get returns the payment to its customer and to admins, and fault.NotFound to others.
func (s *payments) get(ctx context.Context, tx *function.Tx, in *paymentID) (*paymentOutput, error) {
	p, ok, err := s.payments.Find(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	caller := tx.Principal()
	if !ok || p.CustomerID != caller.Subject && !caller.Is(auth.RoleAdmin) {
		return nil, fault.New(fault.NotFound, "there is no payment %s", in.ID)
	}
	p.Ref = "" // only the provider needs it
	return &paymentOutput{Body: p}, nil
}
