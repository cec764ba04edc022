// Package provider is the port to a payment provider. Its drivers are in the folders beside it.
package provider

import (
	"context"
	"time"
)

// Provider moves money for orders. All methods may be called concurrently, end when their context ends, and may be
// called again with the same payment any number of times: each does its work at most once. A failure is a fault whose
// kind says whether to retry; a final refusal is a *Declined.
type Provider interface {
	// Authorize reserves the amount. A payment that was voided is never authorized again.
	Authorize(ctx context.Context, p Payment) error
	// Capture charges the reserved amount.
	Capture(ctx context.Context, p Payment) error
	// Void cancels the reservation, also one that a concurrent Authorize is making. It returns nil when no amount is
	// reserved, and ErrCaptured when the amount was captured.
	Void(ctx context.Context, p Payment) error
	// Refund pays the captured amount back.
	Refund(ctx context.Context, p Payment) error
}

// Opener is implemented by a Provider that creates a payment before money can move. The caller stores the reference
// that Open returns before it calls Authorize, so that after a crash a payment can still be found and voided.
type Opener interface {
	// Open creates the payment and reserves no money. It returns the same reference each time for one order.
	Open(ctx context.Context, p Payment) (ref string, err error)
}

// Notifier is implemented by a Provider that tells of payments without being asked.
type Notifier interface {
	// Notice returns which payment a message is about. A message that the provider has not just sent is fault.Denied.
	Notice(signature string, body []byte, now time.Time) (Notice, error)
	// Look returns what the provider knows of a payment, by the reference that Open returned.
	Look(ctx context.Context, ref string) (Found, error)
}

// Notice is a message of the provider.
type Notice struct {
	ID  string // the same for each copy of the message
	Ref string // of the payment; "": it is about none
}

// Money is where the money of a payment is. The zero Money is that of the payer.
type Money string

// The places of the money.
const (
	Held     Money = "held"     // reserved
	Taken    Money = "taken"    // captured
	Released Money = "released" // voided, and never to be held again
	Returned Money = "returned" // refunded
)

// Found is a payment as the provider knows it.
type Found struct {
	OrderID  string // "": it is of no order
	Ref      string
	Amount   int64
	Currency string
	Money    Money
}

// Payment is the payment of an order. Calls are idempotent by OrderID, and by Key, which is the same whenever the same
// call is made again and which no other call has.
type Payment struct {
	Key      string
	OrderID  string
	Ref      string // from Open; empty when the provider is not an Opener
	Amount   int64  // in minor units
	Currency string // ISO 4217
	Token    string `personal:"erased"` // only for Authorize; never logged
}

// Declined is a final refusal.
type Declined struct {
	Code   string // for programs: card_declined
	Reason string // for people
}

func (d *Declined) Error() string { return "payment declined: " + d.Reason }

type captured struct{}

func (captured) Error() string { return "the payment was captured" }

// ErrCaptured is returned by Void when the payment was captured, so that only Refund can return the money.
var ErrCaptured error = captured{}
