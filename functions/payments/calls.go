package payments

import (
	"context"
	"errors"
	"time"

	"github.com/ebb-dev/ebb/functions/payments/provider"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/outside"
)

// call is a call of the provider. Its id is that of the order: a payment is opened, authorized, captured, voided and
// refunded once.
type call = outside.Call[request, answer]

// calls holds the calls of the provider.
type calls struct {
	open, authorize, capture, void, refund *call

	look *outside.Call[string, provider.Found] // by the id of a notice; In is the reference
}

// request is what the provider is asked for.
type request struct {
	provider.Payment
	CustomerID string `json:",omitempty" person:"id"` // of the token

	Captured bool `json:",omitempty"` // the money is known to be captured
}

// answer is what the provider answers to any of them.
type answer struct {
	Ref      string             // to open
	Declined *provider.Declined // by open, authorize and capture
	Captured bool               // by void: there is money to refund
}

// policy holds for all calls. They are never given up: only the provider's answer tells where the money is.
var policy = outside.Policy{
	Deadline: 20 * time.Second, GiveUp: -1,
	Retry: outside.Retry{AtOnce: 3, Delay: 200 * time.Millisecond, Max: 2 * time.Minute},
}

func (s *payments) declareCalls(f *function.Function) {
	c := outside.New(f)
	s.calls.open = outside.Declare(c, "open", policy, s.callOpen, s.opened)
	s.calls.authorize = outside.Declare(c, "authorize", policy, s.callAuthorize, s.authorized)
	s.calls.capture = outside.Declare(c, "capture", policy, s.callCapture, s.captured)
	s.calls.void = outside.Declare(c, "void", policy, s.callVoid, s.voided)
	s.calls.refund = outside.Declare(c, "refund", policy, s.callRefund, s.refunded)
	s.calls.look = outside.Declare(c, "look", lookPolicy, s.callLook, s.found)
}

// any reports whether one of the calls is under way for an order.
func (calls) any(ctx context.Context, tx *function.Tx, orderID string, of ...*call) (bool, error) {
	for _, c := range of {
		if busy, err := c.Pending(ctx, tx, orderID); err != nil || busy {
			return busy, err
		}
	}
	return false, nil
}

// startOnce starts a call unless it is under way: then its result answers this command too.
func (s calls) startOnce(ctx context.Context, tx *function.Tx, c *call, p Payment) error {
	if busy, err := s.any(ctx, tx, p.OrderID, c); err != nil || busy {
		return err
	}
	return c.Start(ctx, tx, p.OrderID, p.request())
}

// keyed returns what the provider is called with, with the key of the call.
func keyed(r outside.Request[request]) provider.Payment {
	p := r.In.Payment
	p.Key = r.Key
	return p
}

// answerOf returns the answer for a refusal, which is one.
func answerOf(err error) (a answer, failure error) {
	if errors.As(err, &a.Declined) {
		return a, nil
	}
	return a, err
}

func (s *payments) callOpen(ctx context.Context, r outside.Request[request]) (answer, error) {
	ref, err := s.opener.Open(ctx, keyed(r))
	a, err := answerOf(err)
	a.Ref = ref
	return a, err
}

func (s *payments) callAuthorize(ctx context.Context, r outside.Request[request]) (answer, error) {
	return answerOf(s.provider.Authorize(ctx, keyed(r)))
}

func (s *payments) callCapture(ctx context.Context, r outside.Request[request]) (answer, error) {
	return answerOf(s.provider.Capture(ctx, keyed(r)))
}

func (s *payments) callVoid(ctx context.Context, r outside.Request[request]) (answer, error) {
	err := s.provider.Void(ctx, keyed(r))
	if errors.Is(err, provider.ErrCaptured) {
		return answer{Captured: true}, nil
	}
	return answer{}, err
}

// callRefund voids what was perhaps not captured, and refunds what was.
func (s *payments) callRefund(ctx context.Context, r outside.Request[request]) (answer, error) {
	if p := keyed(r); !r.In.Captured {
		p.Key += "/void"
		if err := s.provider.Void(ctx, p); !errors.Is(err, provider.ErrCaptured) {
			return answer{}, err
		}
	}
	return answer{}, s.provider.Refund(ctx, keyed(r))
}

// result is the result of a call.
type result = outside.Result[request, answer]

// refusal returns why the provider has refused; nil when it has not.
func refusal(r result) *provider.Declined {
	if r.Err != nil {
		return &provider.Declined{Code: "refused", Reason: fault.Public(r.Err)}
	}
	return r.Out.Declined
}

// opened stores the reference before money moves: a void then finds every payment that a crash leaves.
func (s *payments) opened(ctx context.Context, tx *function.Tx, r result) error {
	p, err := s.find(ctx, tx, r.ID)
	if err != nil || p.Status != Opened {
		return err
	}
	if no := refusal(r); no != nil {
		return s.decline(ctx, tx, p, no)
	}
	p.Ref = r.Out.Ref
	if err := s.payments.Put(ctx, tx, p.OrderID, p); err != nil {
		return err
	}
	asked := p.request()
	asked.Token = r.In.Token
	return s.calls.authorize.Start(ctx, tx, p.OrderID, asked)
}

func (s *payments) decline(ctx context.Context, tx *function.Tx, p Payment, no *provider.Declined) error {
	p.Reason, p.Code = no.Reason, no.Code
	return s.save(ctx, tx, p.withStatus(Declined, tx.Now()))
}

func (s *payments) authorized(ctx context.Context, tx *function.Tx, r result) error {
	p, err := s.find(ctx, tx, r.ID)
	if err != nil {
		return err
	}
	if p.Status != Opened {
		tx.Emit(p.fact())
		return nil
	}
	if no := refusal(r); no != nil {
		return s.decline(ctx, tx, p, no)
	}
	return s.save(ctx, tx, p.withStatus(Authorized, tx.Now()))
}

func (s *payments) captured(ctx context.Context, tx *function.Tx, r result) error {
	p, err := s.find(ctx, tx, r.ID)
	if err != nil {
		return err
	}
	if p.Status != Authorized {
		tx.Emit(p.fact())
		return nil
	}
	if no := refusal(r); no != nil { // the money stays authorized until the saga voids it
		tx.Emit(p.declined(no.Reason, no.Code))
		return nil
	}
	return s.save(ctx, tx, p.withStatus(Captured, tx.Now()))
}

// voided ends a payment that was voided. One that turns out to be captured waits for its refund.
func (s *payments) voided(ctx context.Context, tx *function.Tx, r result) error {
	p, err := s.find(ctx, tx, r.ID)
	switch {
	case err != nil:
		return err
	case onVoid[p.Status] == repeat:
		tx.Emit(p.voided())
		return nil
	case r.Err != nil:
		return r.Err
	case r.Out.Captured || p.Status == Captured:
		return fault.New(fault.NotYet, "the payment of order %s was captured; it can only be refunded", p.OrderID)
	}
	return s.end(ctx, tx, p.withStatus(Voided, tx.Now()))
}

func (s *payments) refunded(ctx context.Context, tx *function.Tx, r result) error {
	p, err := s.find(ctx, tx, r.ID)
	switch {
	case err != nil:
		return err
	case onRefund[p.Status] == repeat:
		tx.Emit(p.refunded())
		return nil
	case r.Err != nil:
		return r.Err
	}
	return s.end(ctx, tx, p.withStatus(Refunded, tx.Now()))
}
