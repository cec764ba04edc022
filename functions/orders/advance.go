package orders

import (
	"context"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/journal"
	"github.com/ebb-dev/ebb/infra/saga"
	"github.com/ebb-dev/ebb/infra/store"
)

type orders struct {
	f        *function.Function
	saga     *saga.Saga[order]
	journal  *journal.Journal[order, happening]
	products *store.Collection[product]
}

// move is what the saga makes of something that happened.
type move func(p saga.Progress, o order, now time.Time) (saga.Progress, []event.Draft, bool)

// advance lets the saga of an order make a move: it notes what happened, says what the saga asks for, and ends
// the order if the saga has ended. A move that changes nothing writes nothing.
func (s *orders) advance(ctx context.Context, tx *function.Tx, orderID string, h happening, m move) (order, error) {
	var drafts []event.Draft
	var timer string
	changed := false
	o, err := s.journal.Change(ctx, tx, orderID, func(o order) ([]happening, error) {
		var p saga.Progress
		if p, drafts, changed = m(o.Saga, o, tx.Now()); !changed {
			return nil, nil
		}
		timer = o.Timer
		h.At, h.Saga = tx.Now(), &p
		if p.Status.Ended() {
			return []happening{h, {What: ended, At: tx.Now()}}, nil
		}
		return []happening{h}, nil
	})
	if err != nil || !changed {
		return o, err
	}
	tx.Emit(drafts...)
	if o.Status.ended() {
		tx.Emit(o.endedEvents()...)
		if timer != "" {
			tx.CancelTimer(timer, o.ID)
		}
		s.f.Env().Telemetry.Age("order", string(o.Status), o.EndedAt.Sub(o.CreatedAt))
	}
	return o, nil
}

// heard takes an answer to one of the saga's commands. The reason and the code are those of a failure.
func (s *orders) heard(ctx context.Context, tx *function.Tx, orderID string, info *event.Info, reason, code string) error {
	_, err := s.advance(ctx, tx, orderID, happening{What: heard, Event: info.Name, Code: code},
		func(p saga.Progress, o order, now time.Time) (saga.Progress, []event.Draft, bool) {
			return s.saga.Handle(p, o, info.Name, clipped(reason), now)
		})
	return err
}

func (s *orders) reserved(ctx context.Context, tx *function.Tx, e events.ReservedStock) error {
	return s.heard(ctx, tx, e.OrderID, events.InventoryReserved.Info(), "", "")
}

func (s *orders) refused(ctx context.Context, tx *function.Tx, e events.RefusedStock) error {
	return s.heard(ctx, tx, e.OrderID, events.InventoryRefused.Info(), e.Reason, "out_of_stock")
}

func (s *orders) released(ctx context.Context, tx *function.Tx, e events.ReleasedStock) error {
	return s.heard(ctx, tx, e.OrderID, events.InventoryReleased.Info(), "", "")
}

func (s *orders) authorized(ctx context.Context, tx *function.Tx, e events.AuthorizedPayment) error {
	return s.heard(ctx, tx, e.OrderID, events.PaymentAuthorized.Info(), "", "")
}

func (s *orders) declined(ctx context.Context, tx *function.Tx, e events.DeclinedPayment) error {
	code := e.Code
	if code == "" {
		code = "payment_declined"
	}
	return s.heard(ctx, tx, e.OrderID, events.PaymentDeclined.Info(), "payment declined: "+e.Reason, code)
}

func (s *orders) captured(ctx context.Context, tx *function.Tx, e events.CapturedPayment) error {
	return s.heard(ctx, tx, e.OrderID, events.PaymentCaptured.Info(), "", "")
}

func (s *orders) voided(ctx context.Context, tx *function.Tx, e events.VoidedPayment) error {
	return s.heard(ctx, tx, e.OrderID, events.PaymentVoided.Info(), "", "")
}

func (s *orders) refunded(ctx context.Context, tx *function.Tx, e events.RefundedPayment) error {
	return s.heard(ctx, tx, e.OrderID, events.PaymentRefunded.Info(), "", "")
}

// deadline is the order's timer. It asks the saga, and unless the order has ended runs on to the saga's
// next deadline.
func (s *orders) deadline(ctx context.Context, tx *function.Tx, e events.OrderDeadlinePassed) error {
	o, err := s.journal.Load(ctx, tx, e.OrderID)
	if err != nil || o.Status.ended() {
		return err
	}
	ours := o.Timer == tx.Event().ID() // else another one runs
	o, err = s.advance(ctx, tx, o.ID, happening{What: expired, Code: "deadline"}, s.saga.Expired)
	if err != nil || o.Status.ended() || !ours {
		return err
	}
	timer, err := s.arm(tx, o.ID, o.Saga.Due)
	if err != nil {
		return err
	}
	_, err = s.journal.Append(ctx, tx, o.ID, happening{What: rearmed, At: tx.Now(), Timer: timer})
	return err
}

func (s *orders) arm(tx *function.Tx, orderID string, due time.Time) (timer string, err error) {
	return tx.After(due, events.OrderDeadline.New(orderID, events.OrderDeadlinePassed{OrderID: orderID}))
}

// clipped fits a reason into what an event may carry.
func clipped(reason string) string {
	const most = 2000
	if len(reason) <= most {
		return reason
	}
	if r := []rune(reason); len(r) > most {
		return string(r[:most])
	}
	return reason
}
