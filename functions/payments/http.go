package payments

import (
	"cmp"
	"context"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
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

// byCustomer is the index of list.
var byCustomer = store.On("customer_id", "created_at")

type listInput struct {
	CustomerID string `query:"customer_id" maxLength:"128" doc:"For administrators: the payments of this customer."`
	function.Paging
}

// list returns the payments of the caller, or for an admin of a customer.
func (s *payments) list(ctx context.Context, tx *function.Tx, in *listInput) (*function.Page[Payment], error) {
	caller := tx.Principal()
	customer := cmp.Or(in.CustomerID, caller.Subject)
	if customer != caller.Subject && !caller.Is(auth.RoleAdmin) {
		return nil, fault.New(fault.Denied, "you may only see what is your own")
	}
	page, err := s.payments.Query(ctx, tx, store.Find{
		Where: []store.Filter{{Field: "customer_id", Op: store.Equal, Value: customer}},
		Order: []store.Order{{Field: "created_at", Desc: true}}, Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, err
	}
	return function.PageOf(page, func(item store.Item[Payment]) Payment {
		item.Value.Ref = "" // only the provider needs it
		return item.Value
	}), nil
}
