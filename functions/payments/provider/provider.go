// Package provider is the port to whoever moves the money. Its drivers are the folders beside it.
package provider

import "context"

// Provider moves money for orders. All methods may be called concurrently, honour their context, and
// may be called again with the same payment any number of times: each does its work
// at most once. Failures are faults of a kind that says whether to try again; a final
// refusal is a *Declined.
type Provider interface {
	// Authorize sets the amount aside. A payment that was voided is never authorized again.
	Authorize(ctx context.Context, p Payment) error
	// Capture takes what was set aside.
	Capture(ctx context.Context, p Payment) error
	// Void lets what was set aside go, or what an Authorize under way may be setting
	// aside; nothing being set aside is no fault. What was captured is ErrCaptured.
	Void(ctx context.Context, p Payment) error
	// Refund gives back what was captured.
	Refund(ctx context.Context, p Payment) error
}

// Opener is a Provider that must name a payment before money can move. The caller keeps the
// reference that Open gives before it calls Authorize, so that a payment that is
// half way when everything stops can still be found and voided.
type Opener interface {
	// Open sets nothing aside. For one order it gives the same reference every time.
	Open(ctx context.Context, p Payment) (ref string, err error)
}

// Payment is the payment of an order. OrderID is what makes calls idempotent.
type Payment struct {
	OrderID  string
	Ref      string // from Open; empty if the provider is no Opener
	Amount   int64  // in minor units
	Currency string // ISO 4217
	Token    string // only for Authorize; never logged
}

// Declined is a refusal that stays.
type Declined struct {
	Code   string // for programs: card_declined
	Reason string // for people
}

func (d *Declined) Error() string { return "payment declined: " + d.Reason }

type captured struct{}

func (captured) Error() string { return "the payment was captured" }

// ErrCaptured is what Void answers when only Refund can help.
var ErrCaptured error = captured{}
