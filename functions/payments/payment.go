package payments

import (
	"time"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
)

// Status is what became of an order's payment.
type Status string

// A payment that nobody asked for yet has no status.
const (
	Opened     Status = "opened"     // the provider knows of it; money may be set aside or not
	Authorized Status = "authorized" // money is set aside
	Declined   Status = "declined"   // the provider has refused; final
	Captured   Status = "captured"   // money is taken
	Voided     Status = "voided"     // nothing is set aside, nor ever will be; final
	Refunded   Status = "refunded"   // nothing is set aside or taken any more; final
)

// Payment is the payment of one order.
type Payment struct {
	ID         string       `json:"id" doc:"The order's id."`
	OrderID    string       `json:"order_id"`
	CustomerID string       `json:"customer_id,omitempty"`
	Amount     events.Money `json:"amount"`
	Status     Status       `json:"status" enum:"opened,authorized,declined,captured,voided,refunded"`
	Reason     string       `json:"reason,omitempty" doc:"Why it was declined."`
	Code       string       `json:"code,omitempty" doc:"The same for programs."`
	Ref        string       `json:"ref,omitempty"` // the provider's
	CreatedAt  time.Time    `json:"created_at"`
	ChangedAt  time.Time    `json:"changed_at"`
}

// move is what the provider has to do for a command.
type move int

const (
	nothing    move = iota // the command is answered with what stands
	authorize              // set money aside
	capture                // take it
	void                   // let it go
	remember               // let nothing go, but never set anything aside
	giveBack               // refund what was taken
	voidOrBack             // let it go, or give it back if it turns out to be taken
	notYet                 // come again: something before it is still under way
	never                  // it makes no sense
)

// onAuthorize, onCapture, onVoid and onRefund say what a command is for a payment of each status.
var (
	onAuthorize = map[Status]move{"": authorize, Opened: authorize}
	onCapture   = map[Status]move{"": notYet, Opened: notYet, Authorized: capture}
	onVoid      = map[Status]move{"": remember, Opened: void, Authorized: void, Captured: notYet}
	onRefund    = map[Status]move{"": notYet, Opened: voidOrBack, Authorized: voidOrBack, Captured: giveBack}
)

// becomes is the payment after a move that worked.
func (p Payment) becomes(s Status, now time.Time) Payment {
	p.Status, p.ChangedAt = s, now
	if p.CreatedAt.IsZero() {
		p.CreatedAt = now
	}
	return p
}

func (p Payment) known() bool { return p.Amount.Currency != "" }

// fact is the event that says how the payment stands.
func (p Payment) fact() event.Draft {
	switch p.Status {
	case Authorized:
		return events.PaymentAuthorized.New(p.OrderID, events.AuthorizedPayment{OrderID: p.OrderID, PaymentID: p.ID, Amount: p.Amount})
	case Captured:
		return events.PaymentCaptured.New(p.OrderID, events.CapturedPayment{OrderID: p.OrderID, PaymentID: p.ID, Amount: p.Amount})
	case Declined:
		return p.declined(p.Reason, p.Code)
	case Refunded:
		return p.refunded()
	}
	return p.voided()
}

func (p Payment) declined(reason, code string) event.Draft {
	return events.PaymentDeclined.New(p.OrderID, events.DeclinedPayment{OrderID: p.OrderID, PaymentID: p.ID, Reason: reason, Code: code})
}

func (p Payment) voided() event.Draft {
	d := events.VoidedPayment{OrderID: p.OrderID}
	if p.known() {
		d.PaymentID = p.ID
	}
	return events.PaymentVoided.New(p.OrderID, d)
}

func (p Payment) refunded() event.Draft {
	return events.PaymentRefunded.New(p.OrderID, events.RefundedPayment{OrderID: p.OrderID, PaymentID: p.ID, Amount: p.Amount})
}

// fault is why a move cannot be made.
func (m move) fault(p Payment) error {
	switch m {
	case notYet:
		return fault.New(fault.NotYet, "the payment of order %s is not that far", p.OrderID)
	case never:
		return fault.New(fault.Invalid, "there never was a payment for order %s", p.OrderID)
	}
	return nil
}
