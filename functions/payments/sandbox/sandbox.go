// Package sandbox is a payment provider that moves no money. The token of a payment decides the result:
//
//	tok_ok          authorized
//	tok_declined    declined
//	tok_error_once  unavailable at the first attempt of an order, then authorized
//	tok_slow        authorized after a delay
//	anything else   declined
//
// It stores nothing itself: a Memory records the first attempt of tok_error_once.
package sandbox

import (
	"context"
	"time"

	"github.com/ebb-dev/ebb/functions/payments/provider"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Memory records calls durably, also when the handler that calls it fails.
type Memory interface {
	// First reports whether this is the first call for the order.
	First(ctx context.Context, orderID string) (bool, error)
}

// Provider is the sandbox.
type Provider struct {
	memory Memory
	slow   time.Duration
}

var _ provider.Provider = (*Provider)(nil)

// New returns a sandbox whose tok_slow takes the time slow.
func New(memory Memory, slow time.Duration) *Provider { return &Provider{memory, slow} }

// Authorize returns the result that the token stands for; see the package.
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

// Capture always succeeds, as do Void and Refund: the caller stores the status of the payment.
func (s *Provider) Capture(context.Context, provider.Payment) error { return nil }

// Void always succeeds.
func (s *Provider) Void(context.Context, provider.Payment) error { return nil }

// Refund always succeeds.
func (s *Provider) Refund(context.Context, provider.Payment) error { return nil }
