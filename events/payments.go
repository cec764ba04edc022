package events

import "github.com/ebb-dev/ebb/infra/event"

// AuthorizePayment asks for money to be set aside for an order.
type AuthorizePayment struct {
	OrderID    string `json:"order_id" minLength:"1" maxLength:"128"`
	CustomerID string `json:"customer_id" minLength:"1" maxLength:"128"`
	Amount     Money  `json:"amount"`
	// Token is the only value in the catalogue that is secret-like. It passes through
	// brokers and is archived, which is bearable only because it is good for one use.
	Token string `json:"token" minLength:"1" maxLength:"500" doc:"A one-time token of the payment provider; worthless once used. Never a card number. Never log it."`
}

// CapturePayment asks for the money set aside for an order to be taken.
type CapturePayment struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
}

// VoidPayment asks for the money set aside for an order to be let go.
type VoidPayment struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
}

// RefundPayment asks for the money taken for an order to be given back.
type RefundPayment struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
	Reason  string `json:"reason,omitempty" maxLength:"2000"`
}

// AuthorizedPayment is money set aside.
type AuthorizedPayment struct {
	OrderID   string `json:"order_id" minLength:"1" maxLength:"128"`
	PaymentID string `json:"payment_id" minLength:"1" maxLength:"128"`
	Amount    Money  `json:"amount"`
}

// DeclinedPayment is money that could not be set aside or taken.
type DeclinedPayment struct {
	OrderID   string `json:"order_id" minLength:"1" maxLength:"128"`
	PaymentID string `json:"payment_id,omitempty" maxLength:"128"`
	Reason    string `json:"reason" minLength:"1" maxLength:"2000" doc:"For people."`
	Code      string `json:"code,omitempty" maxLength:"100" doc:"For programs: card_declined, expired ..."`
}

// CapturedPayment is money taken.
type CapturedPayment struct {
	OrderID   string `json:"order_id" minLength:"1" maxLength:"128"`
	PaymentID string `json:"payment_id" minLength:"1" maxLength:"128"`
	Amount    Money  `json:"amount"`
}

// VoidedPayment is money let go before it was taken.
type VoidedPayment struct {
	OrderID   string `json:"order_id" minLength:"1" maxLength:"128"`
	PaymentID string `json:"payment_id,omitempty" maxLength:"128" doc:"None: there never was a payment."`
}

// RefundedPayment is money given back.
type RefundedPayment struct {
	OrderID   string `json:"order_id" minLength:"1" maxLength:"128"`
	PaymentID string `json:"payment_id,omitempty" maxLength:"128"`
	Amount    Money  `json:"amount"`
}

// What payments is asked.
var (
	PaymentAuthorize = event.Define(namespace, "payments.authorize", 1, event.Command,
		"Set money aside for an order. Answered by payments.authorized or payments.declined.",
		AuthorizePayment{OrderID: exOrder, CustomerID: exUser, Amount: exTotal, Token: "tok_ok"})

	PaymentCapture = event.Define(namespace, "payments.capture", 1, event.Command,
		"Take the money set aside for an order. Answered by payments.captured or payments.declined.",
		CapturePayment{OrderID: exOrder})

	PaymentVoid = event.Define(namespace, "payments.void", 1, event.Command,
		"Let the money set aside for an order go, or promise never to set any aside. Answered by payments.voided.",
		VoidPayment{OrderID: exOrder})

	PaymentRefund = event.Define(namespace, "payments.refund", 1, event.Command,
		"Give the money taken for an order back. Answered by payments.refunded.",
		RefundPayment{OrderID: exOrder, Reason: "cancelled by the customer"},
		RefundPayment{OrderID: exOrder})
)

// What payments says.
var (
	PaymentAuthorized = event.Define(namespace, "payments.authorized", 1, event.Fact, "Money is set aside for an order.",
		AuthorizedPayment{OrderID: exOrder, PaymentID: exPayment, Amount: exTotal})

	PaymentDeclined = event.Define(namespace, "payments.declined", 1, event.Fact, "The provider has refused, finally, and why.",
		DeclinedPayment{OrderID: exOrder, PaymentID: exPayment, Reason: "the card was declined", Code: "card_declined"},
		DeclinedPayment{OrderID: exOrder, Reason: "the card was declined"})

	PaymentCaptured = event.Define(namespace, "payments.captured", 1, event.Fact, "Money was taken for an order, once.",
		CapturedPayment{OrderID: exOrder, PaymentID: exPayment, Amount: exTotal})

	PaymentVoided = event.Define(namespace, "payments.voided", 1, event.Fact, "No money is set aside for an order.",
		VoidedPayment{OrderID: exOrder, PaymentID: exPayment},
		VoidedPayment{OrderID: exOrder})

	PaymentRefunded = event.Define(namespace, "payments.refunded", 1, event.Fact, "The money taken for an order was given back, once.",
		RefundedPayment{OrderID: exOrder, PaymentID: exPayment, Amount: exTotal},
		RefundedPayment{OrderID: exOrder, Amount: exTotal})
)
