package inventory

import (
	"context"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

type inventory struct {
	stock        *store.Collection[Stock]
	reservations *store.Collection[Reservation]
}

func (i *inventory) reserve(ctx context.Context, tx *function.Tx, cmd events.ReserveStock) error {
	before, err := i.find(ctx, tx, cmd.OrderID, cmd.Lines)
	if err != nil {
		return err
	}
	if before.Status != "" {
		tx.Emit(before.fact())
		return nil
	}
	on, err := i.shelf(ctx, tx, cmd.Lines)
	if err != nil {
		return err
	}
	after, changed := before.reserve(cmd.Lines, on)
	return i.keep(ctx, tx, before, after, changed)
}

func (i *inventory) release(ctx context.Context, tx *function.Tx, cmd events.ReleaseStock) error {
	return i.change(ctx, tx, cmd.OrderID, Reservation.release)
}

func (i *inventory) ship(ctx context.Context, tx *function.Tx, cmd events.ShipStock) error {
	return i.change(ctx, tx, cmd.OrderID, Reservation.ship)
}

func (i *inventory) change(ctx context.Context, tx *function.Tx, orderID string, by func(Reservation, shelf) (Reservation, shelf, error)) error {
	before, err := i.find(ctx, tx, orderID, nil)
	if err != nil {
		return err
	}
	on, err := i.shelf(ctx, tx, before.Lines)
	if err != nil {
		return err
	}
	after, changed, err := by(before, on)
	if err != nil {
		return err
	}
	return i.keep(ctx, tx, before, after, changed)
}

// find reads an order's reservation and, in the same call of the store, the stock of the lines.
func (i *inventory) find(ctx context.Context, tx *function.Tx, orderID string, lines []events.StockLine) (Reservation, error) {
	keys := make([]store.Key, 0, len(lines)+1)
	keys = append(keys, i.reservations.Key(orderID))
	for _, line := range lines {
		keys = append(keys, i.stock.Key(line.ProductID))
	}
	if err := tx.StoreTx().Load(ctx, keys...); err != nil {
		return Reservation{}, err
	}
	r, _, err := i.reservations.Find(ctx, tx, orderID)
	r.OrderID = orderID
	return r, err
}

func (i *inventory) shelf(ctx context.Context, tx *function.Tx, lines []events.StockLine) (shelf, error) {
	ids := make([]string, len(lines))
	for n, line := range lines {
		ids[n] = line.ProductID
	}
	return i.stock.GetMany(ctx, tx, ids...)
}

// keep writes what changed and says so: the products first, the answer last.
func (i *inventory) keep(ctx context.Context, tx *function.Tx, before, after Reservation, changed shelf) error {
	for _, line := range after.Lines {
		s, ok := changed[line.ProductID]
		if !ok {
			continue
		}
		delete(changed, line.ProductID)
		if err := i.stock.Put(ctx, tx, s.ProductID, s); err != nil {
			return err
		}
		tx.Emit(s.changed())
	}
	if after.Status != before.Status {
		if err := i.reservations.Put(ctx, tx, after.OrderID, after); err != nil {
			return err
		}
	}
	tx.Emit(after.fact())
	return nil
}
