package orders

import (
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/saga"
)

// Status is what a customer wants to know of an order.
type Status string

const (
	Pending   Status = "pending"
	Confirmed Status = "confirmed"
	Cancelled Status = "cancelled"
)

func (s Status) ended() bool { return s == Confirmed || s == Cancelled }

// order is the state of an order, folded from what happened to it.
type order struct {
	ID         string             `json:"id"`
	CustomerID string             `json:"customer_id"`
	Lines      []events.OrderLine `json:"lines"`
	Total      events.Money       `json:"total"`
	Token      string             `json:"token,omitempty"` // of the payment, until it is asked for
	CreatedAt  time.Time          `json:"created_at"`
	Status     Status             `json:"status"`
	Code       string             `json:"code,omitempty"` // why it is cancelled, for programs
	EndedAt    time.Time          `json:"ended_at,omitzero"`
	Timer      string             `json:"timer,omitempty"`
	Saga       saga.Progress      `json:"saga"`
}

// happening is one event of an order's journal.
type happening struct {
	What   what           `json:"what"`
	At     time.Time      `json:"at"`
	Placed *order         `json:"placed,omitempty"` // the order as it was placed
	Event  string         `json:"event,omitempty"`  // the type of what was heard
	Code   string         `json:"code,omitempty"`
	Timer  string         `json:"timer,omitempty"`
	Saga   *saga.Progress `json:"saga,omitempty"` // where this brought the saga
}

type what string

const (
	placed    what = "placed"
	heard     what = "heard"     // an answer that the saga waited for
	expired   what = "expired"   // the saga waited long enough
	cancelled what = "cancelled" // somebody asked for it
	rearmed   what = "rearmed"   // another timer runs
	ended     what = "ended"
)

// foldRevision numbers fold; see journal.Revision.
const foldRevision = 1

func fold(o order, h happening) order {
	switch h.What {
	case placed:
		o = *h.Placed
	case rearmed:
		o.Timer = h.Timer
	case ended:
		o.EndedAt = h.At
		o.Timer = ""
	}
	if h.Saga != nil {
		if o.Saga.Status == saga.Running && h.Saga.Status != saga.Running {
			o.Code = h.Code // what turned it
		}
		o.Saga = *h.Saga
	}
	o.Status = statusOf(o.Saga.Status)
	if !o.needsToken() {
		o.Token = ""
	}
	return o
}

func statusOf(s saga.Status) Status {
	switch s {
	case saga.Completed:
		return Confirmed
	case saga.Reversed:
		return Cancelled
	}
	return Pending
}

// needsToken reports whether the payment is still to be asked for.
func (o order) needsToken() bool { return o.Saga.Status == saga.Running && o.Saga.Step == stepReserve }

// seenBy reports whether somebody may know of the order.
func (o order) seenBy(subject string, admin bool) bool { return admin || o.CustomerID == subject }

func (o order) placedEvent() event.Draft {
	return events.OrderPlaced.New(o.ID, events.PlacedOrder{
		OrderID: o.ID, CustomerID: o.CustomerID, Lines: o.Lines, Total: o.Total, PlacedAt: o.CreatedAt,
	})
}

// endedEvents are what an order says when it has ended.
func (o order) endedEvents() []event.Draft {
	if o.Status == Confirmed {
		return []event.Draft{
			events.OrderConfirmed.New(o.ID, events.ConfirmedOrder{OrderID: o.ID, CustomerID: o.CustomerID, Total: o.Total, ConfirmedAt: o.EndedAt}),
			events.InventoryShip.New(o.ID, events.ShipStock{OrderID: o.ID}),
		}
	}
	return []event.Draft{events.OrderCancelled.New(o.ID, events.CancelledOrder{
		OrderID: o.ID, CustomerID: o.CustomerID, Reason: o.Saga.Reason, Code: o.Code, CancelledAt: o.EndedAt,
	})}
}

// Order is an order as the API shows it.
type Order struct {
	ID         string             `json:"id"`
	Status     Status             `json:"status" enum:"pending,confirmed,cancelled"`
	Reason     string             `json:"reason,omitempty" doc:"Why it is, or is being, cancelled."`
	Code       string             `json:"code,omitempty" doc:"The same for programs: out_of_stock, card_declined, deadline, cancelled_by_customer."`
	Total      events.Money       `json:"total"`
	Lines      []events.OrderLine `json:"lines"`
	CustomerID string             `json:"customer_id"`
	CreatedAt  time.Time          `json:"created_at"`
	EndedAt    time.Time          `json:"ended_at,omitzero"`
	Saga       saga.Progress      `json:"saga" doc:"How far it is, with the steps still to come."`
}

func (o order) shown() Order {
	return Order{
		ID: o.ID, Status: o.Status, Reason: o.Saga.Reason, Code: o.Code, Total: o.Total, Lines: o.Lines,
		CustomerID: o.CustomerID, CreatedAt: o.CreatedAt, EndedAt: o.EndedAt, Saga: o.Saga,
	}
}
