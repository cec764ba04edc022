package payments

import (
	"context"
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/payments/provider"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/outside"
)

// notice is the inbox entry of a message of the provider.
type notice struct {
	At time.Time `json:"at"`
}

// noticeRetention is longer than the provider sends a message again: Stripe does for three days.
const noticeRetention = 7 * 24 * time.Hour

// lookPolicy gives up after a day: the provider tells of the next change of the payment again.
var lookPolicy = outside.Policy{Deadline: 10 * time.Second, GiveUp: 24 * time.Hour}

type webhookInput struct {
	Signature string `header:"Stripe-Signature" maxLength:"4096" doc:"Stripe's signature of the body."`
	RawBody   []byte
}

// webhook takes a message of the provider. Messages come late, twice and in any order, so the provider is asked for
// what it knows of the payment now.
func (s *payments) webhook(ctx context.Context, tx *function.Tx, in *webhookInput) (*struct{}, error) {
	if s.notifier == nil {
		return nil, fault.New(fault.NotFound, "webhooks are not set up")
	}
	n, err := s.notifier.Notice(in.Signature, in.RawBody, tx.Now())
	if err != nil {
		return nil, err
	}
	if _, known, err := s.notices.Find(ctx, tx, n.ID); err != nil || known {
		return nil, err
	}
	if err := s.notices.Put(ctx, tx, n.ID, notice{At: tx.Now()}); err != nil || n.Ref == "" {
		return nil, err
	}
	return nil, s.calls.look.Start(ctx, tx, n.ID, n.Ref)
}

func (s *payments) callLook(ctx context.Context, r outside.Request[string]) (provider.Found, error) {
	if s.notifier == nil { // another version of the settings has begun it
		return provider.Found{}, fault.New(fault.Invalid, "the provider cannot be asked")
	}
	return s.notifier.Look(ctx, r.In)
}

// found brings the payment in line with what the provider knows. While a call about the payment is under way, its
// result does that.
func (s *payments) found(
	ctx context.Context, tx *function.Tx, r outside.Result[string, provider.Found],
) error {
	if r.Err != nil || r.Out.OrderID == "" {
		return nil // it is no payment of ours
	}
	at := r.Out
	c := s.calls
	busy, err := c.any(ctx, tx, at.OrderID, c.open, c.authorize, c.capture, c.void, c.refund)
	if err != nil || busy {
		return err
	}
	p, err := s.find(ctx, tx, at.OrderID)
	if err != nil || p.Ref != "" && p.Ref != at.Ref {
		return err // an intent that was opened twice and is not used
	}
	p.Ref = at.Ref
	to := onFound[at.Money][p.Status]
	if to == "" || p.Status == Opened && p.CustomerID == "" { // the latter was found before, and no command has come
		return nil
	}
	s.f.Env().Logger.WarnContext(ctx, "the provider and we knew different things of a payment",
		"order", p.OrderID, "known", string(p.Status), "found", string(at.Money))
	switch {
	case p.Status == "": // a void or a refund finds it now
		p.Amount = events.Money{Amount: at.Amount, Currency: at.Currency}
		return s.payments.Put(ctx, tx, p.OrderID, p.withStatus(Opened, tx.Now()))
	case to == p.Status: // there is money that was to be given back
		if err := s.payments.Put(ctx, tx, p.OrderID, p); err != nil {
			return err
		}
		if at.Money == provider.Taken {
			request := p.request()
			request.Captured = true
			return c.refund.Start(ctx, tx, p.OrderID, request)
		}
		return c.startOnce(ctx, tx, c.void, p)
	}
	return s.save(ctx, tx, p.withStatus(to, tx.Now()))
}

// onFound holds the status that a payment gets, by where the provider says that the money is and by its present status.
// A payment whose status stays has money that must be given back. Where there is none, both agree.
var onFound = map[provider.Money]map[Status]Status{
	provider.Held: {
		"": Opened, Opened: Authorized, Voided: Voided, Declined: Declined, Refunded: Refunded,
	},
	provider.Taken: {
		"": Opened, Opened: Authorized, Authorized: Captured, Voided: Voided, Declined: Declined, Refunded: Refunded,
	},
	provider.Released: {Opened: Voided, Authorized: Voided},
	provider.Returned: {Opened: Refunded, Authorized: Refunded, Captured: Refunded},
}
