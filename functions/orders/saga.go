package orders

import (
	"context"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/saga"
)

// stepAuthorize is the step that uses the token of the payment.
const stepAuthorize = "authorize"

// placing declares the saga that places an order.
func placing(deadline time.Duration) []saga.Step[order] {
	return []saga.Step[order]{
		{
			Name: "reserve", Deadline: deadline,
			Command: saga.Send(events.InventoryReserve, func(o order) events.ReserveStock {
				return events.ReserveStock{OrderID: o.ID, Lines: stockLines(o.Lines)}
			}),
			Done: events.InventoryReserved, Failed: saga.Because(events.InventoryRefused, outOfStock),
			Undo: saga.Send(events.InventoryRelease, func(o order) events.ReleaseStock {
				return events.ReleaseStock{OrderID: o.ID}
			}),
			Undone: events.InventoryReleased,
		},
		{
			Name: stepAuthorize, Deadline: deadline, When: order.costs,
			Command: saga.Send(events.PaymentAuthorize, func(o order) events.AuthorizePayment {
				return events.AuthorizePayment{OrderID: o.ID, CustomerID: o.CustomerID, Amount: o.Total, Token: o.Token}
			}),
			Done: events.PaymentAuthorized, Failed: saga.Because(events.PaymentDeclined, declined),
			Undo: saga.Send(events.PaymentVoid, func(o order) events.VoidPayment {
				return events.VoidPayment{OrderID: o.ID}
			}),
			Undone: events.PaymentVoided,
		},
		{
			Name: "capture", Deadline: deadline, Pivot: true, When: order.costs,
			Command: saga.Send(events.PaymentCapture, func(o order) events.CapturePayment {
				return events.CapturePayment{OrderID: o.ID}
			}),
			Done: events.PaymentCaptured, Failed: saga.Because(events.PaymentDeclined, declined),
			Undo: saga.Send(events.PaymentRefund, func(o order) events.RefundPayment {
				return events.RefundPayment{OrderID: o.ID}
			}),
			Undone: events.PaymentRefunded,
		},
	}
}

// costs reports whether there is something to pay.
func (o order) costs() bool { return o.Total.Amount > 0 }

func stockLines(lines []events.OrderLine) []events.StockLine {
	all := make([]events.StockLine, len(lines))
	for i, l := range lines {
		all[i] = events.StockLine{ProductID: l.ProductID, Quantity: l.Quantity}
	}
	return all
}

func outOfStock(e events.RefusedStock) (reason, code string) { return e.Reason, "out_of_stock" }

func declined(e events.DeclinedPayment) (reason, code string) {
	if code = e.Code; code == "" {
		code = "payment_declined"
	}
	return "payment declined: " + e.Reason, code
}

// deadline makes the event of the order's timer.
func deadline(o order) events.OrderDeadlinePassed { return events.OrderDeadlinePassed{OrderID: o.ID} }

// ended emits the final events of an order.
func (s *orders) ended(_ context.Context, tx *function.Tx, o *order) error {
	o.Status = statusOf(o.Saga.Status)
	if o.Status == Confirmed {
		tx.Emit(events.OrderConfirmed.New(o.ID, events.ConfirmedOrder{
			OrderID: o.ID, CustomerID: o.CustomerID, Total: o.Total, ConfirmedAt: o.EndedAt,
		}), events.InventoryShip.New(o.ID, events.ShipStock{OrderID: o.ID}))
	} else {
		tx.Emit(events.OrderCancelled.New(o.ID, events.CancelledOrder{
			OrderID: o.ID, CustomerID: o.CustomerID, Reason: o.Saga.Reason, Code: o.Code, CancelledAt: o.EndedAt,
		}))
	}
	s.f.Env().Telemetry.Age("order", string(o.Status), o.EndedAt.Sub(o.CreatedAt))
	return nil
}

// Picture returns the saga as a Mermaid diagram.
func Picture() string { return saga.Mermaid(placing(time.Second)) }
