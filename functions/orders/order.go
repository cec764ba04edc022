package orders

import (
	"slices"
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
	saga.Instance
	CustomerID string             `json:"customer_id" person:"id"`
	Lines      []events.OrderLine `json:"lines"`
	Total      events.Money       `json:"total"`
	Token      string             `json:"token,omitempty" personal:"erased"` // of the payment, until it is authorized
	CreatedAt  time.Time          `json:"created_at"`
	Status     Status             `json:"status"`
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
func (o order) needsToken() bool {
	return o.Saga.Status == saga.Running && !slices.ContainsFunc(o.Saga.Steps, func(s saga.StepProgress) bool {
		return s.Name == stepAuthorize && s.State != saga.ToDo && s.State != saga.Doing
	})
}

// visibleTo reports whether the caller may see the order.
func (o order) visibleTo(subject string, admin bool) bool { return admin || o.CustomerID == subject }

func (o order) placedEvent() event.Draft {
	return events.OrderPlaced.New(o.ID, events.PlacedOrder{
		OrderID: o.ID, CustomerID: o.CustomerID, Lines: o.Lines, Total: o.Total, PlacedAt: o.CreatedAt,
	})
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
		CustomerID: o.CustomerID, CreatedAt: o.CreatedAt, EndedAt: o.EndedAt, Saga: o.Saga.Public(),
	}
}
