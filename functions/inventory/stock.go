package inventory

import (
	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Stock is how much there is of a product, and where it went.
type Stock struct {
	ProductID string `json:"product_id"`
	Available int    `json:"available" doc:"May be ordered."`
	Reserved  int    `json:"reserved" doc:"Kept for orders under way."`
	Shipped   int    `json:"shipped" doc:"Has left."`
	Initial   int    `json:"initial" doc:"All there ever was: available, reserved and shipped."`
}

// MaxAvailable bounds what may be available of one product.
const MaxAvailable = 1_000_000_000

// counted is the stock after somebody counted what is available.
func (s Stock) counted(available int) Stock {
	s.Available = available
	s.Initial = s.Available + s.Reserved + s.Shipped
	return s
}

func (s Stock) changed() event.Draft {
	return events.StockChanged.New(s.ProductID, events.ChangedStock(s))
}

// shelf is the stock of some products by their ids. A product that is not on it has none.
type shelf map[string]Stock

// Status is what became of an order's stock.
type Status string

// A reservation that nobody asked for yet has no status.
const (
	Reserved Status = "reserved"
	Refused  Status = "refused"
	Released Status = "released" // perhaps before anything was reserved
	Shipped  Status = "shipped"
)

// Reservation is the stock of one order.
type Reservation struct {
	OrderID   string             `json:"order_id"`
	Status    Status             `json:"status"`
	Lines     []events.StockLine `json:"lines,omitempty"`
	Reason    string             `json:"reason,omitempty"`
	ProductID string             `json:"product_id,omitempty"` // of which there was not enough
}

// reserve keeps all lines or none. What it returns changed of the shelf is nil if nothing did.
func (r Reservation) reserve(lines []events.StockLine, on shelf) (Reservation, shelf) {
	if r.Status != "" {
		return r, nil
	}
	taken := shelf{}
	for _, line := range lines {
		s, touched := taken[line.ProductID]
		if !touched {
			s = on[line.ProductID]
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

// release gives back what is reserved, or sees to it that nothing ever will be.
func (r Reservation) release(on shelf) (Reservation, shelf, error) {
	switch r.Status {
	case Shipped:
		return r, nil, fault.New(fault.Invalid, "the stock of order %s has left", r.OrderID)
	case Reserved:
		r.Status = Released
		return r, r.move(on, func(s *Stock, n int) { s.Reserved -= n; s.Available += n }), nil
	}
	r.Status = Released
	return r, nil, nil
}

// ship lets what is reserved leave.
func (r Reservation) ship(on shelf) (Reservation, shelf, error) {
	switch r.Status {
	case Shipped:
		return r, nil, nil
	case Reserved:
		r.Status = Shipped
		return r, r.move(on, func(s *Stock, n int) { s.Reserved -= n; s.Shipped += n }), nil
	case Refused, Released:
		return r, nil, fault.New(fault.Invalid, "the stock of order %s is %s and cannot leave", r.OrderID, r.Status)
	}
	return r, nil, fault.New(fault.NotYet, "nothing is reserved for order %s yet", r.OrderID)
}

func (r Reservation) move(on shelf, by func(*Stock, int)) shelf {
	moved := shelf{}
	for _, line := range r.Lines {
		s, touched := moved[line.ProductID]
		if !touched {
			s = on[line.ProductID]
		}
		by(&s, line.Quantity)
		moved[line.ProductID] = s
	}
	return moved
}

// fact is the event that says how the reservation stands.
func (r Reservation) fact() event.Draft {
	switch r.Status {
	case Reserved:
		return events.InventoryReserved.New(r.OrderID, events.ReservedStock{OrderID: r.OrderID, Lines: r.Lines})
	case Refused:
		return events.InventoryRefused.New(r.OrderID, events.RefusedStock{OrderID: r.OrderID, Reason: r.Reason, ProductID: r.ProductID})
	case Shipped:
		return events.InventoryShipped.New(r.OrderID, events.ShippedStock{OrderID: r.OrderID})
	}
	return events.InventoryReleased.New(r.OrderID, events.ReleasedStock{OrderID: r.OrderID})
}
