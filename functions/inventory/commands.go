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
	levels, err := i.levels(ctx, tx, cmd.Lines)
	if err != nil {
		return err
	}
	after, changed := before.reserve(cmd.Lines, levels)
	return i.save(ctx, tx, before, after, changed)
}

func (i *inventory) release(ctx context.Context, tx *function.Tx, cmd events.ReleaseStock) error {
	return i.change(ctx, tx, cmd.OrderID, Reservation.release)
}

func (i *inventory) ship(ctx context.Context, tx *function.Tx, cmd events.ShipStock) error {
	return i.change(ctx, tx, cmd.OrderID, Reservation.ship)
}

// change applies a command to an order's reservation. apply returns the new reservation and the stock levels it
// changed.
func (i *inventory) change(
	ctx context.Context, tx *function.Tx, orderID string,
	apply func(Reservation, stockLevels) (Reservation, stockLevels, error),
) error {
	before, err := i.find(ctx, tx, orderID, nil)
	if err != nil {
		return err
	}
	levels, err := i.levels(ctx, tx, before.Lines)
	if err != nil {
		return err
	}
	after, changed, err := apply(before, levels)
	if err != nil {
		return err
	}
	return i.save(ctx, tx, before, after, changed)
}

// find returns an order's reservation. It loads the stock of the lines in the same call of the store.
func (i *inventory) find(
	ctx context.Context, tx *function.Tx, orderID string, lines []events.StockLine,
) (Reservation, error) {
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

// levels returns the stock of the products of the lines.
func (i *inventory) levels(ctx context.Context, tx *function.Tx, lines []events.StockLine) (stockLevels, error) {
	ids := make([]string, len(lines))
	for n, line := range lines {
		ids[n] = line.ProductID
	}
	return i.stock.GetMany(ctx, tx, ids...)
}

// save writes the changed stock levels and the reservation, and emits their events, the reservation's last.
func (i *inventory) save(
	ctx context.Context, tx *function.Tx, before, after Reservation, changed stockLevels,
) error {
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
