package inventory

import (
	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Stock counts the items of one product.
type Stock struct {
	ProductID string `json:"product_id"`
	Available int    `json:"available" doc:"May be ordered."`
	Reserved  int    `json:"reserved" doc:"Held for orders that are not shipped yet."`
	Shipped   int    `json:"shipped" doc:"Has left the warehouse."`
	Initial   int    `json:"initial" doc:"The sum of available, reserved and shipped."`
}

// MaxAvailable is the most that may be available of one product.
const MaxAvailable = 1_000_000_000

// counted returns the stock with another number of available items.
func (s Stock) counted(available int) Stock {
	s.Available = available
	s.Initial = s.Available + s.Reserved + s.Shipped
	return s
}

func (s Stock) changed() event.Draft {
	return events.StockChanged.New(s.ProductID, events.ChangedStock(s))
}

// stockLevels holds the stock of some products by their ids. A product that is missing has no stock.
type stockLevels map[string]Stock

// Status is the state of a reservation.
type Status string

// The states of a reservation. Before the first command for its order it has none.
const (
	Reserved Status = "reserved"
	Refused  Status = "refused"
	Released Status = "released" // also by a release that came before its reserve
	Shipped  Status = "shipped"
)

// Reservation is the stock of one order.
type Reservation struct {
	OrderID   string             `json:"order_id"`
	Status    Status             `json:"status"`
	Lines     []events.StockLine `json:"lines,omitempty"`
	Reason    string             `json:"reason,omitempty"`
	ProductID string             `json:"product_id,omitempty"` // the product without enough stock
}

// reserve reserves all lines or none. It returns the changed stock levels; nil when none changed.
func (r Reservation) reserve(lines []events.StockLine, levels stockLevels) (Reservation, stockLevels) {
	if r.Status != "" {
		return r, nil
	}
	taken := stockLevels{}
	for _, line := range lines {
		s, touched := taken[line.ProductID]
		if !touched {
			s = levels[line.ProductID]
		}
		if s.Available < line.Quantity {
			r.Status, r.ProductID = Refused, line.ProductID
			r.Reason = "insufficient stock of " + line.ProductID
			return r, nil
		}
		s.Available -= line.Quantity
		s.Reserved += line.Quantity
		taken[line.ProductID] = s
	}
	r.Status, r.Lines = Reserved, lines
	return r, taken
}

// release makes reserved stock available again. Nothing is reserved after a release.
func (r Reservation) release(levels stockLevels) (Reservation, stockLevels, error) {
	switch r.Status {
	case Shipped:
		return r, nil, fault.New(fault.Invalid, "the stock of order %s has left", r.OrderID)
	case Reserved:
		r.Status = Released
		return r, r.move(levels, func(s *Stock, n int) { s.Reserved -= n; s.Available += n }), nil
	}
	r.Status = Released
	return r, nil, nil
}

// ship counts reserved stock as shipped.
func (r Reservation) ship(levels stockLevels) (Reservation, stockLevels, error) {
	switch r.Status {
	case Shipped:
		return r, nil, nil
	case Reserved:
		r.Status = Shipped
		return r, r.move(levels, func(s *Stock, n int) { s.Reserved -= n; s.Shipped += n }), nil
	case Refused, Released:
		return r, nil, fault.New(fault.Invalid, "the stock of order %s is %s and cannot leave", r.OrderID, r.Status)
	}
	return r, nil, fault.New(fault.NotYet, "nothing is reserved for order %s yet", r.OrderID)
}

// move applies a change to the stock of each line, and returns the changed stock levels.
func (r Reservation) move(levels stockLevels, change func(s *Stock, quantity int)) stockLevels {
	moved := stockLevels{}
	for _, line := range r.Lines {
		s, touched := moved[line.ProductID]
		if !touched {
			s = levels[line.ProductID]
		}
		change(&s, line.Quantity)
		moved[line.ProductID] = s
	}
	return moved
}

// fact returns the event of the reservation's status.
func (r Reservation) fact() event.Draft {
	switch r.Status {
	case Reserved:
		return events.InventoryReserved.New(r.OrderID, events.ReservedStock{OrderID: r.OrderID, Lines: r.Lines})
	case Refused:
		return events.InventoryRefused.New(r.OrderID,
			events.RefusedStock{OrderID: r.OrderID, Reason: r.Reason, ProductID: r.ProductID})
	case Shipped:
		return events.InventoryShipped.New(r.OrderID, events.ShippedStock{OrderID: r.OrderID})
	}
	return events.InventoryReleased.New(r.OrderID, events.ReleasedStock{OrderID: r.OrderID})
}
