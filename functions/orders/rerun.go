package orders

import (
	"net/http"
	"net/url"
	"strings"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/auth"
	"github.com/ebb-dev/ebb/infra/rerun"
)

// unknownToken is the token of an order that is placed again. The real one is personal and in no archive; payments
// answers as it has answered.
const unknownToken = "unknown"

// Rerun tells how a past order is placed or cancelled again: orders.placed has the lines and the customer, and
// orders.cancelled tells who has cancelled it and why.
func Rerun() *rerun.Recipe { return &rerun.Recipe{Request: requestOf} }

func requestOf(emitted []ce.Event, past rerun.Past) (rerun.Request, bool) {
	for _, e := range emitted {
		if e.Type() == events.OrderPlaced.Name() {
			return placedBy(e)
		}
	}
	for _, e := range emitted {
		if e.Type() == events.InventoryRelease.Name() || e.Type() == events.PaymentVoid.Name() ||
			e.Type() == events.OrderCancelled.Name() || e.Type() == events.PaymentRefund.Name() {
			return cancelledBy(e.Subject(), past)
		}
	}
	return rerun.Request{}, false
}

// placedBy returns the request that has placed an order. The prices are those that the products have in the run.
func placedBy(e ce.Event) (rerun.Request, bool) {
	o, err := events.OrderPlaced.Decode(e)
	if err != nil {
		return rerun.Request{}, false
	}
	lines := make([]orderedLine, len(o.Lines))
	for i, l := range o.Lines {
		lines[i] = orderedLine{ProductID: l.ProductID, Quantity: l.Quantity}
	}
	return rerun.Request{
		Method: http.MethodPost, Path: "/api/orders", Subject: o.CustomerID, Roles: []string{auth.RoleCustomer},
		Body: map[string]any{"lines": lines, "payment": map[string]string{"token": unknownToken}},
	}, true
}

// cancelledBy returns the request that has cancelled an order. Its last event tells why it was cancelled, with the code
// of the first cause: an order whose step had missed its deadline before was not cancelled by a person.
func cancelledBy(id string, past rerun.Past) (rerun.Request, bool) {
	var placed events.PlacedOrder
	var why events.CancelledOrder
	for _, e := range past.About(id) {
		switch e.Type() {
		case events.OrderPlaced.Name():
			placed, _ = events.OrderPlaced.Decode(e)
		case events.OrderCancelled.Name():
			why, _ = events.OrderCancelled.Decode(e)
		}
	}
	r := rerun.Request{
		Method: http.MethodPost, Path: "/api/orders/" + url.PathEscape(id) + "/cancellation",
		Subject: placed.CustomerID, Roles: []string{auth.RoleCustomer},
	}
	switch why.Code {
	case "cancelled_by_customer":
	case "cancelled_by_shop":
		r.Subject, r.Roles = "shop", []string{auth.RoleAdmin}
	default:
		return r, false
	}
	if _, reason, given := strings.Cut(why.Reason, ": "); given {
		r.Body = map[string]string{"reason": reason}
	}
	return r, placed.CustomerID != ""
}
