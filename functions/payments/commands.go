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
	requested := Payment{ID: cmd.OrderID, OrderID: cmd.OrderID, CustomerID: cmd.CustomerID, Amount: cmd.Amount}
	var declined *provider.Declined
	if err := s.open(ctx, requested); err != nil && !errors.As(err, &declined) {
		return err
	}
	p, err := s.find(ctx, tx, cmd.OrderID)
	if err != nil {
		return err
	}
	if onAuthorize[p.Status] == repeat {
		tx.Emit(p.fact())
		return nil
	}
	if p.Status == "" {
		p = requested
	}
	if declined == nil {
		request := p.request()
		request.Token = cmd.Token
		if err := s.provider.Authorize(ctx, request); err != nil && !errors.As(err, &declined) {
			return err
		}
	}
	if declined != nil {
		p.Reason, p.Code = declined.Reason, declined.Code
		return s.save(ctx, tx, p.withStatus(Declined, tx.Now()))
	}
	return s.save(ctx, tx, p.withStatus(Authorized, tx.Now()))
}

// open creates the payment at a provider that is an Opener, and stores the reference in a unit of work of its own, so
// that it is stored before money moves, also when the handler then fails.
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
	if p.Ref, err = opener.Open(ctx, p.request()); err != nil {
		return err
	}
	return s.f.Update(ctx, func(ctx context.Context, tx *function.Tx) error {
		before, err := s.find(ctx, tx, p.OrderID)
		if err != nil || before.Status != "" {
			return err // a concurrent call has stored it
		}
		return s.payments.Put(ctx, tx, p.OrderID, p.withStatus(Opened, tx.Now()))
	})
}

func (s *payments) capture(ctx context.Context, tx *function.Tx, cmd events.CapturePayment) error {
	p, err := s.find(ctx, tx, cmd.OrderID)
	if err != nil || tx.Replayed() {
		return err
	}
	m := onCapture[p.Status]
	switch m {
	case repeat:
		tx.Emit(p.fact())
		return nil
	case capture:
		err := s.provider.Capture(ctx, p.request())
		var declined *provider.Declined
		if errors.As(err, &declined) { // the money stays authorized until the saga voids it
			tx.Emit(p.declined(declined.Reason, declined.Code))
			return nil
		}
		if err != nil {
			return err
		}
		return s.save(ctx, tx, p.withStatus(Captured, tx.Now()))
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
	case repeat:
		tx.Emit(p.voided())
		return nil
	case blockAuthorize:
		return s.save(ctx, tx, p.withStatus(Voided, tx.Now()))
	case void:
		err := s.provider.Void(ctx, p.request())
		if errors.Is(err, provider.ErrCaptured) {
			return fault.Wrap(err, fault.NotYet, "the payment of order %s was captured; it can only be refunded", p.OrderID)
		}
		if err != nil {
			return err
		}
		return s.save(ctx, tx, p.withStatus(Voided, tx.Now()))
	}
	return m.fault(p)
}

func (s *payments) refund(ctx context.Context, tx *function.Tx, cmd events.RefundPayment) error {
	p, err := s.find(ctx, tx, cmd.OrderID)
	if err != nil || tx.Replayed() {
		return err
	}
	m := onRefund[p.Status]
	if m == repeat && !p.known() {
		m = refuse
	}
	switch m {
	case repeat:
		tx.Emit(p.refunded())
		return nil
	case voidOrRefund:
		err = s.provider.Void(ctx, p.request())
		if errors.Is(err, provider.ErrCaptured) {
			err = s.provider.Refund(ctx, p.request())
		}
	case refund:
		err = s.provider.Refund(ctx, p.request())
	default:
		return m.fault(p)
	}
	if err != nil {
		return err
	}
	return s.save(ctx, tx, p.withStatus(Refunded, tx.Now()))
}

func (s *payments) find(ctx context.Context, tx *function.Tx, orderID string) (Payment, error) {
	p, _, err := s.payments.Find(ctx, tx, orderID)
	p.ID, p.OrderID = orderID, orderID
	return p, err
}

// save writes the payment and emits the event of its status.
func (s *payments) save(ctx context.Context, tx *function.Tx, p Payment) error {
	tx.Emit(p.fact())
	return s.payments.Put(ctx, tx, p.OrderID, p)
}

// request returns what the provider needs to know of the payment.
func (p Payment) request() provider.Payment {
	return provider.Payment{OrderID: p.OrderID, Ref: p.Ref, Amount: p.Amount.Amount, Currency: p.Amount.Currency}
}

// failure records that the sandbox has failed once for an order.
type failure struct {
	Failed bool `json:"failed"`
}

// First implements sandbox.Memory. It commits in a unit of work of its own, because the handler that calls it will
// fail.
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
