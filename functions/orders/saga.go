package orders

import (
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/saga"
)

// The steps of placing an order.
const (
	stepReserve   = "reserve"
	stepAuthorize = "authorize"
	stepCapture   = "capture"
)

// placing declares the saga that places an order.
func placing(deadline time.Duration) (*saga.Saga[order], error) {
	return saga.New("order",
		saga.Step[order]{
			Name: stepReserve, Deadline: deadline,
			Command: func(o order) event.Draft {
				return events.InventoryReserve.New(o.ID, events.ReserveStock{OrderID: o.ID, Lines: stockLines(o.Lines)})
			},
			Done: events.InventoryReserved.Info(), Failed: events.InventoryRefused.Info(),
			Undo: func(o order) event.Draft {
				return events.InventoryRelease.New(o.ID, events.ReleaseStock{OrderID: o.ID})
			},
			Undone: events.InventoryReleased.Info(),
		},
		saga.Step[order]{
			Name: stepAuthorize, Deadline: deadline,
			Command: func(o order) event.Draft {
				return events.PaymentAuthorize.New(o.ID, events.AuthorizePayment{
					OrderID: o.ID, CustomerID: o.CustomerID, Amount: o.Total, Token: o.Token,
				})
			},
			Done: events.PaymentAuthorized.Info(), Failed: events.PaymentDeclined.Info(),
			Undo: func(o order) event.Draft {
				return events.PaymentVoid.New(o.ID, events.VoidPayment{OrderID: o.ID})
			},
			Undone: events.PaymentVoided.Info(),
		},
		saga.Step[order]{
			Name: stepCapture, Deadline: deadline, Pivot: true,
			Command: func(o order) event.Draft {
				return events.PaymentCapture.New(o.ID, events.CapturePayment{OrderID: o.ID})
			},
			Done: events.PaymentCaptured.Info(), Failed: events.PaymentDeclined.Info(),
			Undo: func(o order) event.Draft {
				return events.PaymentRefund.New(o.ID, events.RefundPayment{OrderID: o.ID})
			},
			Undone: events.PaymentRefunded.Info(),
		},
	)
}

func stockLines(lines []events.OrderLine) []events.StockLine {
	all := make([]events.StockLine, len(lines))
	for i, l := range lines {
		all[i] = events.StockLine{ProductID: l.ProductID, Quantity: l.Quantity}
	}
	return all
}

// Picture returns the saga as a Mermaid diagram.
func Picture() string {
	s, err := placing(time.Second)
	if err != nil {
		panic(err) // the declaration is invalid; every test would show it
	}
	return s.Mermaid()
}
