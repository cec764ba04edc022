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

type paymentAnswer struct{ Body Payment }

// get answers the owner and admins. To others a payment is not there.
func (s *payments) get(ctx context.Context, tx *function.Tx, in *paymentID) (*paymentAnswer, error) {
	p, ok, err := s.payments.Find(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	who := tx.Principal()
	if !ok || p.CustomerID != who.Subject && !who.Is(auth.RoleAdmin) {
		return nil, fault.New(fault.NotFound, "there is no payment %s", in.ID)
	}
	p.Ref = "" // between us and the provider
	return &paymentAnswer{Body: p}, nil
}
