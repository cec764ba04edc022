package orders

import (
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/saga"
)

// Status is the state of an order.
type Status string

// The states of an order. Confirmed and Cancelled are final.
const (
	Pending   Status = "pending"
	Confirmed Status = "confirmed"
	Cancelled Status = "cancelled"
)

func (s Status) ended() bool { return s == Confirmed || s == Cancelled }

// order is the state of an order, folded from its events.
type order struct {
	ID         string             `json:"id"`
	CustomerID string             `json:"customer_id" person:"id"`
	Lines      []events.OrderLine `json:"lines"`
	Total      events.Money       `json:"total"`
	Token      string             `json:"token,omitempty" personal:"erased"` // of the payment, until the payment is authorized
	CreatedAt  time.Time          `json:"created_at"`
	Status     Status             `json:"status"`
	Code       string             `json:"code,omitempty"` // the reason of the cancellation, for programs
	EndedAt    time.Time          `json:"ended_at,omitzero"`
	Timer      string             `json:"timer,omitempty"`
	Saga       saga.Progress      `json:"saga"`
}

// orderEvent is one event of an order's journal.
type orderEvent struct {
	What   eventKind      `json:"what"`
	At     time.Time      `json:"at"`
	Placed *order         `json:"placed,omitempty"` // the order as it was placed
	Event  string         `json:"event,omitempty"`  // the type of the answer
	Code   string         `json:"code,omitempty"`
	Timer  string         `json:"timer,omitempty"`
	Saga   *saga.Progress `json:"saga,omitempty"` // the saga's progress after this event
}

// eventKind says what happened to an order.
type eventKind string

const (
	placed    eventKind = "placed"
	answered  eventKind = "heard"     // the saga received an answer that it waited for
	expired   eventKind = "expired"   // the deadline of a step passed
	cancelled eventKind = "cancelled" // the customer or an admin cancelled
	timerSet  eventKind = "rearmed"   // the timer was set again
	ended     eventKind = "ended"
)

// foldRevision numbers fold; see journal.Revision.
const foldRevision = 1

// fold returns the order after one more event.
func fold(o order, e orderEvent) order {
	switch e.What {
	case placed:
		o = *e.Placed
	case timerSet:
		o.Timer = e.Timer
	case ended:
		o.EndedAt = e.At
		o.Timer = ""
	}
	if e.Saga != nil {
		if o.Saga.Status == saga.Running && e.Saga.Status != saga.Running {
			o.Code = e.Code // of the event that began the undoing
		}
		o.Saga = *e.Saga
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

// needsToken reports whether the payment is not authorized yet.
func (o order) needsToken() bool { return o.Saga.Status == saga.Running && o.Saga.Step == stepReserve }

// visibleTo reports whether the caller may see the order.
func (o order) visibleTo(subject string, admin bool) bool { return admin || o.CustomerID == subject }

func (o order) placedEvent() event.Draft {
	return events.OrderPlaced.New(o.ID, events.PlacedOrder{
		OrderID: o.ID, CustomerID: o.CustomerID, Lines: o.Lines, Total: o.Total, PlacedAt: o.CreatedAt,
	})
}

// endedEvents returns the events of an order that has ended.
func (o order) endedEvents() []event.Draft {
	if o.Status == Confirmed {
		return []event.Draft{
			events.OrderConfirmed.New(o.ID, events.ConfirmedOrder{
				OrderID: o.ID, CustomerID: o.CustomerID, Total: o.Total, ConfirmedAt: o.EndedAt,
			}),
			events.InventoryShip.New(o.ID, events.ShipStock{OrderID: o.ID}),
		}
	}
	return []event.Draft{events.OrderCancelled.New(o.ID, events.CancelledOrder{
		OrderID: o.ID, CustomerID: o.CustomerID, Reason: o.Saga.Reason, Code: o.Code, CancelledAt: o.EndedAt,
	})}
}

// Order is the API's form of an order.
type Order struct {
	ID         string             `json:"id"`
	Status     Status             `json:"status" enum:"pending,confirmed,cancelled"`
	Reason     string             `json:"reason,omitempty" doc:"Why the order is, or is being, cancelled."`
	Code       string             `json:"code,omitempty" doc:"The reason for programs, such as out_of_stock."`
	Total      events.Money       `json:"total"`
	Lines      []events.OrderLine `json:"lines"`
	CustomerID string             `json:"customer_id"`
	CreatedAt  time.Time          `json:"created_at"`
	EndedAt    time.Time          `json:"ended_at,omitzero"`
	Saga       saga.Progress      `json:"saga" doc:"The progress of the order, with the steps still to come."`
}

func (o order) shown() Order {
	return Order{
		ID: o.ID, Status: o.Status, Reason: o.Saga.Reason, Code: o.Code, Total: o.Total, Lines: o.Lines,
		CustomerID: o.CustomerID, CreatedAt: o.CreatedAt, EndedAt: o.EndedAt, Saga: o.Saga,
	}
}
