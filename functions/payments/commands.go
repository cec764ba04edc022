package payments

import (
	"context"
	"errors"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/payments/provider"
	flags "github.com/ebb-dev/ebb/infra/flag/provider"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

type payments struct {
	f        *function.Function
	payments *store.Collection[Payment]
	failures *store.Collection[failure]
	provider provider.Provider
	opener   provider.Opener   // nil: the provider opens no payments
	notifier provider.Notifier // nil: the provider sends no notices
	notices  *store.Collection[notice]
	flags    *flags.Flags
	calls    calls
}

func (s *payments) authorize(ctx context.Context, tx *function.Tx, cmd events.AuthorizePayment) error {
	p, err := s.find(ctx, tx, cmd.OrderID)
	if err != nil || tx.Replayed() {
		return err
	}
	if onAuthorize[p.Status] == repeat {
		tx.Emit(p.fact())
		return nil
	}
	if p.Status == Opened {
		if busy, err := s.calls.any(ctx, tx, cmd.OrderID, s.calls.open, s.calls.authorize); err != nil || busy {
			return err // its result answers
		}
	}
	if p.CustomerID == "" { // it is new, or was found at the provider
		p.CustomerID, p.Amount = cmd.CustomerID, cmd.Amount
		if p.free() {
			return s.save(ctx, tx, p.withStatus(Authorized, tx.Now()))
		}
		if accepted, err := s.accepts(ctx, tx, p); err != nil {
			return err
		} else if !accepted {
			return s.decline(ctx, tx, p, switchedOff)
		}
		p = p.withStatus(Opened, tx.Now())
		if err := s.payments.Put(ctx, tx, p.OrderID, p); err != nil {
			return err
		}
	}
	asked := p.request()
	asked.Token = cmd.Token
	if s.opener != nil && p.Ref == "" {
		return s.calls.open.Start(ctx, tx, p.OrderID, asked)
	}
	return s.calls.authorize.Start(ctx, tx, p.OrderID, asked)
}

func (s *payments) capture(ctx context.Context, tx *function.Tx, cmd events.CapturePayment) error {
	p, err := s.find(ctx, tx, cmd.OrderID)
	if err != nil || tx.Replayed() {
		return err
	}
	m := onCapture[p.Status]
	switch {
	case m == repeat:
		tx.Emit(p.fact())
		return nil
	case m == capture && p.free():
		return s.save(ctx, tx, p.withStatus(Captured, tx.Now()))
	case m == capture:
		return s.calls.startOnce(ctx, tx, s.calls.capture, p)
	}
	return m.fault(p)
}

func (s *payments) void(ctx context.Context, tx *function.Tx, cmd events.VoidPayment) error {
	p, err := s.find(ctx, tx, cmd.OrderID)
	if err != nil || tx.Replayed() {
		return err
	}
	m := onVoid[p.Status]
	switch {
	case m == repeat:
		tx.Emit(p.voided())
		return nil
	case m == blockAuthorize || m == void && s.holdsNothing(p):
		return s.end(ctx, tx, p.withStatus(Voided, tx.Now()))
	case m == void:
		return s.calls.startOnce(ctx, tx, s.calls.void, p)
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
	switch {
	case m == repeat:
		tx.Emit(p.refunded())
		return nil
	case (m == refund || m == voidOrRefund) && s.holdsNothing(p):
		return s.end(ctx, tx, p.withStatus(Refunded, tx.Now()))
	case m == refund || m == voidOrRefund:
		return s.calls.startOnce(ctx, tx, s.calls.refund, p)
	}
	return m.fault(p)
}

// acceptedFlag is the feature flag by which new payments are declined: all of them, or by currency, amount or customer.
// It is a boolean; false declines.
const acceptedFlag = "payments-accepted"

// switchedOff is why a payment is declined that acceptedFlag does not accept.
var switchedOff = &provider.Declined{
	Code: "switched_off", Reason: "payments like this one are not accepted at the moment",
}

// accepts reports whether acceptedFlag accepts a new payment. It does unless it is told otherwise. A payment that the
// provider has already is accepted: declining it would leave the money there.
func (s *payments) accepts(ctx context.Context, tx *function.Tx, p Payment) (bool, error) {
	if p.Ref != "" {
		return true, nil
	}
	return s.flags.Boolean(ctx, tx, acceptedFlag, true, flags.Context{
		"targetingKey": p.CustomerID, "amount": p.Amount.Amount, "currency": p.Amount.Currency,
	})
}

// holdsNothing reports whether the provider can hold no money for the payment, so that nothing is to be given back.
func (s *payments) holdsNothing(p Payment) bool {
	return p.free() || s.opener != nil && p.Status == Opened && p.Ref == ""
}

func (s *payments) find(ctx context.Context, tx *function.Tx, orderID string) (Payment, error) {
	p, _, err := s.payments.Find(ctx, tx, orderID)
	p.ID, p.OrderID = orderID, orderID
	return p, err
}

// prefetch names what a command reads.
func (s *payments) prefetch(e ce.Event) []store.Key {
	if e.Subject() == "" {
		return nil
	}
	keys := []store.Key{s.payments.Key(e.Subject())}
	switch e.Type() {
	case events.PaymentAuthorize.Name():
		keys = append(keys, s.flags.Document(acceptedFlag))
	case events.PaymentCapture.Name():
		keys = append(keys, s.calls.capture.Document(e.Subject()))
	case events.PaymentVoid.Name():
		keys = append(keys, s.calls.void.Document(e.Subject()))
	case events.PaymentRefund.Name():
		keys = append(keys, s.calls.refund.Document(e.Subject()))
	}
	return keys
}

// save writes the payment and emits the event of its status.
func (s *payments) save(ctx context.Context, tx *function.Tx, p Payment) error {
	tx.Emit(p.fact())
	return s.payments.Put(ctx, tx, p.OrderID, p)
}

// end saves a payment that no money is to move for any more.
func (s *payments) end(ctx context.Context, tx *function.Tx, p Payment) error {
	err := errors.Join(
		s.calls.open.Cancel(ctx, tx, p.OrderID), s.calls.authorize.Cancel(ctx, tx, p.OrderID),
		s.calls.capture.Cancel(ctx, tx, p.OrderID),
	)
	if err != nil {
		return err
	}
	return s.save(ctx, tx, p)
}

// request returns what the provider needs to know of the payment.
func (p Payment) request() request {
	return request{
		Payment:    provider.Payment{OrderID: p.OrderID, Ref: p.Ref, Amount: p.Amount.Amount, Currency: p.Amount.Currency},
		CustomerID: p.CustomerID, Captured: p.Status == Captured,
	}
}

// failure records that the sandbox has failed once for an order.
type failure struct {
	Failed bool `json:"failed"`
}

// First implements sandbox.Memory. It commits in a unit of work of its own.
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
