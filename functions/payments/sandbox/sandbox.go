// Package sandbox is a payment provider without money. The token of a payment says what becomes of it:
//
//	tok_ok          authorized
//	tok_declined    declined
//	tok_error_once  not available at the first attempt of an order, authorized from then on
//	tok_slow        authorized after a while
//	anything else   declined
//
// It keeps nothing: what tok_error_once has to remember, it asks a Memory to.
package sandbox

import (
	"context"
	"time"

	"github.com/ebb-dev/ebb/functions/payments/provider"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Memory remembers for good, whatever becomes of the handler that asks.
type Memory interface {
	// First reports whether this is the first call for the order, and from then on it is not.
	First(ctx context.Context, orderID string) (bool, error)
}

// Provider is the sandbox.
type Provider struct {
	memory Memory
	slow   time.Duration
}

var _ provider.Provider = (*Provider)(nil)

// New makes a sandbox in which tok_slow takes so long.
func New(memory Memory, slow time.Duration) *Provider { return &Provider{memory, slow} }

// Authorize does as the token says.
func (s *Provider) Authorize(ctx context.Context, p provider.Payment) error {
	switch p.Token {
	case "tok_ok":
		return nil
	case "tok_declined":
		return &provider.Declined{Code: "card_declined", Reason: "the card was declined"}
	case "tok_error_once":
		first, err := s.memory.First(ctx, p.OrderID)
		if err == nil && first {
			err = fault.New(fault.Unavailable, "the payment provider is not available just now")
		}
		return err
	case "tok_slow":
		return s.wait(ctx)
	}
	return &provider.Declined{Code: "invalid_token", Reason: "unknown payment token"}
}

func (s *Provider) wait(ctx context.Context) error {
	timer := time.NewTimer(s.slow)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fault.Wrap(ctx.Err(), fault.Timeout, "the payment provider did not answer in time")
	}
}

// Capture always works, as do Void and Refund: what they did is the caller's to remember.
func (s *Provider) Capture(context.Context, provider.Payment) error { return nil }

// Void always works.
func (s *Provider) Void(context.Context, provider.Payment) error { return nil }

// Refund always works.
func (s *Provider) Refund(context.Context, provider.Payment) error { return nil }
