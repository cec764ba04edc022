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
	journal  *journal.Journal[order, orderEvent]
	products *store.Collection[product]
}

// transition returns the saga's next progress, the drafts to emit, and whether the progress changed.
type transition func(p saga.Progress, o order, now time.Time) (saga.Progress, []event.Draft, bool)

// advance applies a transition to the saga of an order: it appends the event to the journal, emits the saga's drafts,
// and ends the order if the saga has ended. A transition that changes nothing writes nothing.
func (s *orders) advance(
	ctx context.Context, tx *function.Tx, orderID string, e orderEvent, next transition,
) (order, error) {
	var drafts []event.Draft
	var timer string
	changed := false
	o, err := s.journal.Change(ctx, tx, orderID, func(o order) ([]orderEvent, error) {
		var p saga.Progress
		if p, drafts, changed = next(o.Saga, o, tx.Now()); !changed {
			return nil, nil
		}
		timer = o.Timer
		e.At, e.Saga = tx.Now(), &p
		if p.Status.Ended() {
			return []orderEvent{e, {What: ended, At: tx.Now()}}, nil
		}
		return []orderEvent{e}, nil
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

// answer handles an event that answers one of the saga's commands. A failure has a reason and a code.
func (s *orders) answer(
	ctx context.Context, tx *function.Tx, orderID string, info *event.Info, reason, code string,
) error {
	_, err := s.advance(ctx, tx, orderID, orderEvent{What: answered, Event: info.Name, Code: code},
		func(p saga.Progress, o order, now time.Time) (saga.Progress, []event.Draft, bool) {
			return s.saga.Handle(p, o, info.Name, truncated(reason), now)
		})
	return err
}

func (s *orders) reserved(ctx context.Context, tx *function.Tx, e events.ReservedStock) error {
	return s.answer(ctx, tx, e.OrderID, events.InventoryReserved.Info(), "", "")
}

func (s *orders) refused(ctx context.Context, tx *function.Tx, e events.RefusedStock) error {
	return s.answer(ctx, tx, e.OrderID, events.InventoryRefused.Info(), e.Reason, "out_of_stock")
}

func (s *orders) released(ctx context.Context, tx *function.Tx, e events.ReleasedStock) error {
	return s.answer(ctx, tx, e.OrderID, events.InventoryReleased.Info(), "", "")
}

func (s *orders) authorized(ctx context.Context, tx *function.Tx, e events.AuthorizedPayment) error {
	return s.answer(ctx, tx, e.OrderID, events.PaymentAuthorized.Info(), "", "")
}

func (s *orders) declined(ctx context.Context, tx *function.Tx, e events.DeclinedPayment) error {
	code := e.Code
	if code == "" {
		code = "payment_declined"
	}
	return s.answer(ctx, tx, e.OrderID, events.PaymentDeclined.Info(), "payment declined: "+e.Reason, code)
}

func (s *orders) captured(ctx context.Context, tx *function.Tx, e events.CapturedPayment) error {
	return s.answer(ctx, tx, e.OrderID, events.PaymentCaptured.Info(), "", "")
}

func (s *orders) voided(ctx context.Context, tx *function.Tx, e events.VoidedPayment) error {
	return s.answer(ctx, tx, e.OrderID, events.PaymentVoided.Info(), "", "")
}

func (s *orders) refunded(ctx context.Context, tx *function.Tx, e events.RefundedPayment) error {
	return s.answer(ctx, tx, e.OrderID, events.PaymentRefunded.Info(), "", "")
}

// deadline handles the event of the order's timer. It expires the saga's step if its deadline has passed, and sets the
// timer again for the next deadline unless the order has ended.
func (s *orders) deadline(ctx context.Context, tx *function.Tx, e events.OrderDeadlinePassed) error {
	o, err := s.journal.Load(ctx, tx, e.OrderID)
	if err != nil || o.Status.ended() {
		return err
	}
	current := o.Timer == tx.Event().ID() // otherwise a later timer is set
	o, err = s.advance(ctx, tx, o.ID, orderEvent{What: expired, Code: "deadline"}, s.saga.Expired)
	if err != nil || o.Status.ended() || !current {
		return err
	}
	timer, err := s.setTimer(tx, o.ID, o.Saga.Due)
	if err != nil {
		return err
	}
	_, err = s.journal.Append(ctx, tx, o.ID, orderEvent{What: timerSet, At: tx.Now(), Timer: timer})
	return err
}

// setTimer sets the order's timer.
func (s *orders) setTimer(tx *function.Tx, orderID string, due time.Time) (timer string, err error) {
	return tx.After(due, events.OrderDeadline.New(orderID, events.OrderDeadlinePassed{OrderID: orderID}))
}

// truncated returns the reason, cut to the length that the events' schemas allow.
func truncated(reason string) string {
	const maxLength = 2000 // characters
	if len(reason) <= maxLength {
		return reason
	}
	if r := []rune(reason); len(r) > maxLength {
		return string(r[:maxLength])
	}
	return reason
}
