package payments

import (
	"context"
	"errors"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/payments/provider"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

type payments struct {
	f        *function.Function
	payments *store.Collection[Payment]
	failures *store.Collection[failure]
	provider provider.Provider
}

func (s *payments) authorize(ctx context.Context, tx *function.Tx, cmd events.AuthorizePayment) error {
	if tx.Replayed() {
		return nil
	}
	asked := Payment{ID: cmd.OrderID, OrderID: cmd.OrderID, CustomerID: cmd.CustomerID, Amount: cmd.Amount}
	var no *provider.Declined
	if err := s.open(ctx, asked); err != nil && !errors.As(err, &no) {
		return err
	}
	p, err := s.find(ctx, tx, cmd.OrderID)
	if err != nil {
		return err
	}
	if onAuthorize[p.Status] == nothing {
		tx.Emit(p.fact())
		return nil
	}
	if p.Status == "" {
		p = asked
	}
	if no == nil {
		ask := p.ask()
		ask.Token = cmd.Token
		if err := s.provider.Authorize(ctx, ask); err != nil && !errors.As(err, &no) {
			return err
		}
	}
	if no != nil {
		p.Reason, p.Code = no.Reason, no.Code
		return s.keep(ctx, tx, p.becomes(Declined, tx.Now()))
	}
	return s.keep(ctx, tx, p.becomes(Authorized, tx.Now()))
}

// open names the payment at a provider that needs it, and keeps the name in a unit of work of its
// own: before money moves, and whatever becomes of the handler.
func (s *payments) open(ctx context.Context, p Payment) error {
	opener, ok := s.provider.(provider.Opener)
	if !ok {
		return nil
	}
	known := false
	err := s.f.Read(ctx, func(ctx context.Context, tx *function.Tx) error {
		before, err := s.find(ctx, tx, p.OrderID)
		known = before.Status != ""
		return err
	})
	if err != nil || known {
		return err
	}
	if p.Ref, err = opener.Open(ctx, p.ask()); err != nil {
		return err
	}
	return s.f.Update(ctx, func(ctx context.Context, tx *function.Tx) error {
		before, err := s.find(ctx, tx, p.OrderID)
		if err != nil || before.Status != "" {
			return err // somebody was quicker
		}
		return s.payments.Put(ctx, tx, p.OrderID, p.becomes(Opened, tx.Now()))
	})
}

func (s *payments) capture(ctx context.Context, tx *function.Tx, cmd events.CapturePayment) error {
	p, err := s.find(ctx, tx, cmd.OrderID)
	if err != nil || tx.Replayed() {
		return err
	}
	m := onCapture[p.Status]
	switch m {
	case nothing:
		tx.Emit(p.fact())
		return nil
	case capture:
		err := s.provider.Capture(ctx, p.ask())
		var no *provider.Declined
		if errors.As(err, &no) { // it stays set aside until somebody voids it
			tx.Emit(p.declined(no.Reason, no.Code))
			return nil
		}
		if err != nil {
			return err
		}
		return s.keep(ctx, tx, p.becomes(Captured, tx.Now()))
	}
	return m.fault(p)
}

func (s *payments) void(ctx context.Context, tx *function.Tx, cmd events.VoidPayment) error {
	p, err := s.find(ctx, tx, cmd.OrderID)
	if err != nil || tx.Replayed() {
		return err
	}
	m := onVoid[p.Status]
	switch m {
	case nothing:
		tx.Emit(p.voided())
		return nil
	case remember:
		return s.keep(ctx, tx, p.becomes(Voided, tx.Now()))
	case void:
		err := s.provider.Void(ctx, p.ask())
		if errors.Is(err, provider.ErrCaptured) {
			return fault.Wrap(err, fault.NotYet, "the payment of order %s was captured; it can only be refunded", p.OrderID)
		}
		if err != nil {
			return err
		}
		return s.keep(ctx, tx, p.becomes(Voided, tx.Now()))
	}
	return m.fault(p)
}

func (s *payments) refund(ctx context.Context, tx *function.Tx, cmd events.RefundPayment) error {
	p, err := s.find(ctx, tx, cmd.OrderID)
	if err != nil || tx.Replayed() {
		return err
	}
	m := onRefund[p.Status]
	if m == nothing && !p.known() {
		m = never
	}
	switch m {
	case nothing:
		tx.Emit(p.refunded())
		return nil
	case voidOrBack:
		err = s.provider.Void(ctx, p.ask())
		if errors.Is(err, provider.ErrCaptured) {
			err = s.provider.Refund(ctx, p.ask())
		}
	case giveBack:
		err = s.provider.Refund(ctx, p.ask())
	default:
		return m.fault(p)
	}
	if err != nil {
		return err
	}
	return s.keep(ctx, tx, p.becomes(Refunded, tx.Now()))
}

func (s *payments) find(ctx context.Context, tx *function.Tx, orderID string) (Payment, error) {
	p, _, err := s.payments.Find(ctx, tx, orderID)
	p.ID, p.OrderID = orderID, orderID
	return p, err
}

// keep writes the payment and says how it stands.
func (s *payments) keep(ctx context.Context, tx *function.Tx, p Payment) error {
	tx.Emit(p.fact())
	return s.payments.Put(ctx, tx, p.OrderID, p)
}

func (p Payment) ask() provider.Payment {
	return provider.Payment{OrderID: p.OrderID, Ref: p.Ref, Amount: p.Amount.Amount, Currency: p.Amount.Currency}
}

// failure remembers that the sandbox has failed an order once.
type failure struct {
	Failed bool `json:"failed"`
}

// First is the sandbox's memory. It commits by itself, since the handler that asks is about to fail.
func (s *payments) First(ctx context.Context, orderID string) (first bool, err error) {
	err = s.f.Update(ctx, func(ctx context.Context, tx *function.Tx) error {
		_, before, err := s.failures.Find(ctx, tx, orderID)
		if first = !before; err != nil || before {
			return err
		}
		return s.failures.Put(ctx, tx, orderID, failure{Failed: true})
	})
	return first, err
}
