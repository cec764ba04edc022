package views

import (
	"context"
	"fmt"
	"hash/fnv"
	"strconv"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function"
)

// dayRevenue is the sum of the orders confirmed on one day, of one customer, or a part of the sum of all customers.
//
// Every confirmed order adds to the sum of all, so that one document of it would be written by all instances at once.
// Each instance adds to the part that it has drawn when it was made. A reader adds the parts of a day up, with the one
// document that an older version of the function has written, or writes beside this one.
type dayRevenue struct {
	Generation int64  `json:"generation"`
	CustomerID string `json:"customer_id"`
	Day        string `json:"day"`
	Currency   string `json:"currency"`
	Amount     int64  `json:"amount"`
	Orders     int    `json:"orders"`
}

// allCustomers is the customer id under which the parts of the sum of all customers are stored.
const allCustomers = "*"

// revenueParts is how many parts the sum of a day has at most.
const revenueParts = 32

// drawPart returns the part that an instance adds to.
func drawPart(id string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return fmt.Sprintf("/%02d", h.Sum32()%revenueParts)
}

// keyed returns the document id of an entity in a generation.
func keyed(generation int64, id string) string { return strconv.FormatInt(generation, 10) + "/" + id }

// change applies a change to an order in each generation that the event belongs to.
func (v *views) change(
	ctx context.Context, tx *function.Tx, id string, apply func(generation int64, o *order) error,
) error {
	targets, err := v.targets(ctx, tx)
	if err != nil {
		return err
	}
	for _, generation := range targets {
		o, _, err := v.orders.Find(ctx, tx, keyed(generation, id))
		if err != nil {
			return err
		}
		o.Generation, o.OrderID = generation, id
		if err := apply(generation, &o); err != nil {
			return err
		}
		if err := v.orders.Put(ctx, tx, keyed(generation, id), o); err != nil {
			return err
		}
	}
	return nil
}

func (v *views) orderPlaced(ctx context.Context, tx *function.Tx, data events.PlacedOrder) error {
	return v.change(ctx, tx, data.OrderID, func(_ int64, o *order) error {
		o.placed(data)
		return nil
	})
}

func (v *views) orderCancelled(ctx context.Context, tx *function.Tx, data events.CancelledOrder) error {
	return v.change(ctx, tx, data.OrderID, func(_ int64, o *order) error {
		o.cancelled(data)
		return nil
	})
}

func (v *views) orderConfirmed(ctx context.Context, tx *function.Tx, data events.ConfirmedOrder) error {
	return v.change(ctx, tx, data.OrderID, func(generation int64, o *order) error {
		if !o.confirmed(data) {
			return nil
		}
		for _, customer := range []string{allCustomers, data.CustomerID} {
			if err := v.count(ctx, tx, generation, customer, data); err != nil {
				return err
			}
		}
		return nil
	})
}

// count adds a confirmed order to the revenue of its day.
func (v *views) count(
	ctx context.Context, tx *function.Tx, generation int64, customer string, data events.ConfirmedOrder,
) error {
	id := keyed(generation, customer+"/"+day(data.ConfirmedAt)+"/"+data.Total.Currency)
	if customer == allCustomers {
		id += v.part
	}
	e, _, err := v.revenue.Find(ctx, tx, id)
	if err != nil {
		return err
	}
	e.Generation, e.CustomerID, e.Day, e.Currency = generation, customer, day(data.ConfirmedAt), data.Total.Currency
	e.Amount, e.Orders = e.Amount+data.Total.Amount, e.Orders+1
	return v.revenue.Put(ctx, tx, id, e)
}
