package views

import (
	"time"

	"github.com/ebb-dev/ebb/events"
)

// The states of an order. Confirmed is final; an event never replaces it.
const (
	pending   = "pending"
	cancelled = "cancelled"
	confirmed = "confirmed"
)

// order is the read model of an order. Each event adds to it, in any order of arrival.
type order struct {
	Generation int64              `json:"generation"`
	OrderID    string             `json:"order_id"`
	CustomerID string             `json:"customer_id"`
	Status     string             `json:"status"`
	Placed     string             `json:"placed,omitempty"` // see sortableTime; empty: placed has not come yet
	Ended      time.Time          `json:"ended,omitzero"`
	Reason     string             `json:"reason,omitempty"`
	Total      events.Money       `json:"total,omitzero"`
	Lines      []events.OrderLine `json:"lines,omitempty"`
	Counted    bool               `json:"counted,omitempty"` // in the revenue
}

// sortableTime writes a time as a text that sorts as the time does.
func sortableTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000000Z") }

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func (o *order) placed(data events.PlacedOrder) {
	o.CustomerID, o.Lines, o.Total, o.Placed = data.CustomerID, data.Lines, data.Total, sortableTime(data.PlacedAt)
	if o.Status == "" {
		o.Status = pending
	}
}

// confirmed reports whether the order must be added to the revenue: true the first time only.
func (o *order) confirmed(data events.ConfirmedOrder) bool {
	o.CustomerID, o.Total = data.CustomerID, data.Total
	o.Status, o.Ended, o.Reason = confirmed, data.ConfirmedAt.UTC(), ""
	count := !o.Counted
	o.Counted = true
	return count
}

func (o *order) cancelled(data events.CancelledOrder) {
	o.CustomerID = data.CustomerID
	if o.Status == confirmed {
		return
	}
	o.Status, o.Ended, o.Reason = cancelled, data.CancelledAt.UTC(), data.Reason
}
