package orders

import (
	"cmp"
	"context"
	"net/http"

	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/store"
)

var (
	getOrder = function.Operation{
		Method: http.MethodGet, Path: "/api/orders/{id}", Owner: manifest.OwnerHidden,
		Summary:     "Show an order",
		Description: "For the customer who placed it and for admins; 404 for others.",
	}
	listOrders = function.Operation{
		Method: http.MethodGet, Path: "/api/orders", Owner: manifest.OwnerDenied,
		Summary: "List your orders", Person: "customer_id",
		Description: "The newest first.", Errors: []int{http.StatusForbidden},
	}
)

// byCustomer is the index of listOrders. Ids are UUIDv7, so ordering by id is ordering by time.
var byCustomer = store.On("state.customer_id", "state.id")

type orderID struct {
	ID string `path:"id" minLength:"1" maxLength:"128" doc:"The order's id."`
}

type orderOutput struct{ Body Order }

func (s *orders) get(ctx context.Context, tx *function.Tx, in *orderID) (*orderOutput, error) {
	o, err := s.visible(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	return &orderOutput{Body: o.shown()}, nil
}

// visible returns an order that the caller may see; fault.NotFound for any other.
func (s *orders) visible(ctx context.Context, tx *function.Tx, id string) (order, error) {
	o, ok, err := s.saga.Find(ctx, tx, id)
	if err != nil {
		return o, err
	}
	caller := tx.Principal()
	if !ok || !o.visibleTo(caller.Subject, caller.Is(auth.RoleAdmin)) {
		return order{}, fault.New(fault.NotFound, "there is no order %s", id)
	}
	return o, nil
}

type listInput struct {
	CustomerID string `query:"customer_id" maxLength:"128" doc:"For administrators: the orders of this customer."`
	function.Paging
}

func (s *orders) list(ctx context.Context, tx *function.Tx, in *listInput) (*function.Page[Order], error) {
	caller := tx.Principal()
	customer := cmp.Or(in.CustomerID, caller.Subject)
	if customer != caller.Subject && !caller.Is(auth.RoleAdmin) {
		return nil, fault.New(fault.Denied, "you may only see what is your own")
	}
	page, err := s.saga.Query(ctx, tx, store.Find{
		Where: []store.Filter{{Field: "state.customer_id", Op: store.Equal, Value: customer}},
		Order: []store.Order{{Field: "state.id", Desc: true}}, Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, err
	}
	return function.PageOf(page, func(item store.Item[order]) Order { return item.Value.shown() }), nil
}
