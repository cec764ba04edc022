package views

import (
	"time"

	"github.com/ebb-dev/ebb/events"
)

// What an order may be. It only ever moves towards confirmed.
const (
	pending   = "pending"
	cancelled = "cancelled"
	confirmed = "confirmed"
)

// order is what is known of an order. Each event adds to it, in whatever order they come.
type order struct {
	Generation int64              `json:"generation"`
	OrderID    string             `json:"order_id"`
	CustomerID string             `json:"customer_id"`
	Status     string             `json:"status"`
	Placed     string             `json:"placed,omitempty"` // see moment; none: placed has not come yet
	Ended      time.Time          `json:"ended,omitzero"`
	Reason     string             `json:"reason,omitempty"`
	Total      events.Money       `json:"total,omitzero"`
	Lines      []events.OrderLine `json:"lines,omitempty"`
	Counted    bool               `json:"counted,omitempty"` // in the revenue
}

// moment writes a time so that texts sort as times do.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000000Z") }

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func (o *order) placed(data events.PlacedOrder) {
	o.CustomerID, o.Lines, o.Total, o.Placed = data.CustomerID, data.Lines, data.Total, moment(data.PlacedAt)
	if o.Status == "" {
		o.Status = pending
	}
}

// confirmed reports whether the order is to be counted now: once, however often it is confirmed.
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
