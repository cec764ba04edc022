package payments

import (
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Status is the state of a payment.
type Status string

// The states of a payment. Before the first command for its order it has none.
const (
	Opened     Status = "opened"     // the provider is being asked; it may or may not be authorized there
	Authorized Status = "authorized" // the money is reserved on the card
	Declined   Status = "declined"   // the provider refused; final
	Captured   Status = "captured"   // the money is charged
	Voided     Status = "voided"     // no money is reserved, and none will be; final
	Refunded   Status = "refunded"   // no money is reserved or charged any more; final
)

// Payment is the payment of one order.
type Payment struct {
	ID         string       `json:"id" doc:"The order's id."`
	OrderID    string       `json:"order_id"`
	CustomerID string       `json:"customer_id,omitempty"`
	Amount     events.Money `json:"amount"`
	Status     Status       `json:"status" enum:"opened,authorized,declined,captured,voided,refunded"`
	Reason     string       `json:"reason,omitempty" doc:"Why it was declined."`
	Code       string       `json:"code,omitempty" doc:"The reason for programs."`
	Ref        string       `json:"ref,omitempty"` // the provider's
	CreatedAt  time.Time    `json:"created_at"`
	ChangedAt  time.Time    `json:"changed_at"`
}

// action is how a command is handled.
type action int

const (
	repeat         action = iota // emit the event of the present status again
	authorize                    // authorize the payment
	capture                      // capture it
	void                         // void it
	blockAuthorize               // make it voided without a call, so that a later authorize does nothing
	refund                       // refund what was captured
	voidOrRefund                 // void it, or refund it if it turns out to be captured
	retry                        // fail with fault.NotYet: an earlier command is not done
	refuse                       // fail with fault.Invalid
)

// onAuthorize, onCapture, onVoid and onRefund hold the action of each command by the status of the payment. A status
// that is missing has the action repeat.
var (
	onAuthorize = map[Status]action{"": authorize, Opened: authorize}
	onCapture   = map[Status]action{"": retry, Opened: retry, Authorized: capture}
	onVoid      = map[Status]action{"": blockAuthorize, Opened: void, Authorized: void, Captured: retry}
	onRefund    = map[Status]action{"": retry, Opened: voidOrRefund, Authorized: voidOrRefund, Captured: refund}
)

// withStatus returns the payment with another status.
func (p Payment) withStatus(s Status, now time.Time) Payment {
	p.Status, p.ChangedAt = s, now
	if p.CreatedAt.IsZero() {
		p.CreatedAt = now
	}
	return p
}

func (p Payment) known() bool { return p.Amount.Currency != "" }

// free reports whether there is nothing to pay, so that the provider is not asked.
func (p Payment) free() bool { return p.known() && p.Amount.Amount == 0 }

// fact returns the event of the payment's status.
func (p Payment) fact() event.Draft {
	switch p.Status {
	case Authorized:
		return events.PaymentAuthorized.New(p.OrderID,
			events.AuthorizedPayment{OrderID: p.OrderID, PaymentID: p.ID, Amount: p.Amount})
	case Captured:
		return events.PaymentCaptured.New(p.OrderID,
			events.CapturedPayment{OrderID: p.OrderID, PaymentID: p.ID, Amount: p.Amount})
	case Declined:
		return p.declined(p.Reason, p.Code)
	case Refunded:
		return p.refunded()
	}
	return p.voided()
}

func (p Payment) declined(reason, code string) event.Draft {
	return events.PaymentDeclined.New(p.OrderID,
		events.DeclinedPayment{OrderID: p.OrderID, PaymentID: p.ID, Reason: reason, Code: code})
}

func (p Payment) voided() event.Draft {
	d := events.VoidedPayment{OrderID: p.OrderID}
	if p.known() {
		d.PaymentID = p.ID
	}
	return events.PaymentVoided.New(p.OrderID, d)
}

func (p Payment) refunded() event.Draft {
	return events.PaymentRefunded.New(p.OrderID,
		events.RefundedPayment{OrderID: p.OrderID, PaymentID: p.ID, Amount: p.Amount})
}

// fault returns the error of the actions retry and refuse, and nil for the others.
func (a action) fault(p Payment) error {
	switch a {
	case retry:
		return fault.New(fault.NotYet, "an earlier step of the payment of order %s is not done yet", p.OrderID)
	case refuse:
		return fault.New(fault.Invalid, "there never was a payment for order %s", p.OrderID)
	}
	return nil
}
