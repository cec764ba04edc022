package orders

import (
	"context"
	"net/http"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/manifest"
)

var cancelOrder = function.Operation{
	Method: http.MethodPost, Path: "/api/orders/{id}/cancellation", Owner: manifest.OwnerHidden,
	Status:  http.StatusAccepted,
	Summary: "Cancel an order",
	Description: "Every step of the order that was done is undone, the payment included; then the order is cancelled. A " +
		"confirmed order cannot be cancelled: 409.",
	Errors: []int{http.StatusConflict},
}

type cancelInput struct {
	ID   string `path:"id" minLength:"1" maxLength:"128" doc:"The order's id."`
	Body *struct {
		Reason string `json:"reason,omitempty" maxLength:"500"`
	}
}

// reason returns why the order is cancelled, for people and for programs. subject is the caller.
func (in *cancelInput) reason(o order, subject string) (reason, code string) {
	reason, code = "cancelled by the customer", "cancelled_by_customer"
	if subject != o.CustomerID {
		reason, code = "cancelled by the shop", "cancelled_by_shop"
	}
	if in.Body != nil && in.Body.Reason != "" {
		reason += ": " + in.Body.Reason
	}
	return reason, code
}

func (s *orders) cancel(ctx context.Context, tx *function.Tx, in *cancelInput) (*orderOutput, error) {
	o, err := s.visible(ctx, tx, in.ID)
	if err != nil {
		return nil, err
	}
	if o.Status == Confirmed {
		return nil, fault.New(fault.Conflict, "the order is confirmed and on its way; it cannot be cancelled any more")
	}
	reason, code := in.reason(o, tx.Principal().Subject)
	if o, err = s.saga.Cancel(ctx, tx, o.ID, reason, code); err != nil {
		return nil, err
	}
	return &orderOutput{Body: o.shown()}, nil
}
