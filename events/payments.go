package events

import "github.com/ebb-dev/ebb/infra/event"

// AuthorizePayment asks payments to authorize an order's payment.
type AuthorizePayment struct {
	OrderID    string `json:"order_id" minLength:"1" maxLength:"128"`
	CustomerID string `json:"customer_id" minLength:"1" maxLength:"128" person:"id"`
	Amount     Money  `json:"amount"`
	// Token is the only value of any event that is like a secret. It is personal: brokers and the archive store it
	// encrypted.
	Token string `json:"token" minLength:"1" maxLength:"500" personal:"erased" doc:"A one-time token, never a card number. Never log it."`
}

// CapturePayment asks payments to capture an order's authorized payment.
type CapturePayment struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
}

// VoidPayment asks payments to void an order's payment before it is captured.
type VoidPayment struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
}

// RefundPayment asks payments to refund an order's captured payment.
type RefundPayment struct {
	OrderID string `json:"order_id" minLength:"1" maxLength:"128"`
	Reason  string `json:"reason,omitempty" maxLength:"2000"`
}

// AuthorizedPayment is a payment whose money is reserved.
type AuthorizedPayment struct {
	OrderID   string `json:"order_id" minLength:"1" maxLength:"128"`
	PaymentID string `json:"payment_id" minLength:"1" maxLength:"128"`
	Amount    Money  `json:"amount"`
}

// DeclinedPayment is a payment that the provider refused to authorize or capture.
type DeclinedPayment struct {
	OrderID   string `json:"order_id" minLength:"1" maxLength:"128"`
	PaymentID string `json:"payment_id,omitempty" maxLength:"128"`
	Reason    string `json:"reason" minLength:"1" maxLength:"2000" doc:"For people."`
	Code      string `json:"code,omitempty" maxLength:"100" doc:"For programs: card_declined, expired ..."`
}

// CapturedPayment is a payment whose money was charged.
type CapturedPayment struct {
	OrderID   string `json:"order_id" minLength:"1" maxLength:"128"`
	PaymentID string `json:"payment_id" minLength:"1" maxLength:"128"`
	Amount    Money  `json:"amount"`
}

// VoidedPayment is a payment that was cancelled before it was captured.
type VoidedPayment struct {
	OrderID   string `json:"order_id" minLength:"1" maxLength:"128"`
	PaymentID string `json:"payment_id,omitempty" maxLength:"128" doc:"Missing: the order had no payment."`
}

// RefundedPayment is a payment whose money was paid back.
type RefundedPayment struct {
	OrderID   string `json:"order_id" minLength:"1" maxLength:"128"`
	PaymentID string `json:"payment_id,omitempty" maxLength:"128"`
	Amount    Money  `json:"amount"`
}

// The commands to payments.
var (
	PaymentAuthorize = event.Define(namespace, "payments.authorize", 1, event.Command,
		"Authorize an order's payment. Answered by payments.authorized or payments.declined.",
		AuthorizePayment{OrderID: exOrder, CustomerID: exUser, Amount: exTotal, Token: "tok_ok"})

	PaymentCapture = event.Define(namespace, "payments.capture", 1, event.Command,
		"Capture an order's authorized payment. Answered by payments.captured or payments.declined.",
		CapturePayment{OrderID: exOrder})

	PaymentVoid = event.Define(namespace, "payments.void", 1, event.Command,
		"Void an order's payment; an authorize that comes later does nothing. Answered by payments.voided.",
		VoidPayment{OrderID: exOrder})

	PaymentRefund = event.Define(namespace, "payments.refund", 1, event.Command,
		"Refund an order's captured payment. Answered by payments.refunded.",
		RefundPayment{OrderID: exOrder, Reason: "cancelled by the customer"},
		RefundPayment{OrderID: exOrder})
)

// The events of payments.
var (
	PaymentAuthorized = event.Define(namespace, "payments.authorized", 1, event.Fact, "An order's payment is authorized.",
		AuthorizedPayment{OrderID: exOrder, PaymentID: exPayment, Amount: exTotal})

	PaymentDeclined = event.Define(namespace, "payments.declined", 1, event.Fact, "The provider refused for good, with "+
		"the reason.",
		DeclinedPayment{OrderID: exOrder, PaymentID: exPayment, Reason: "the card was declined", Code: "card_declined"},
		DeclinedPayment{OrderID: exOrder, Reason: "the card was declined"})

	PaymentCaptured = event.Define(namespace, "payments.captured", 1, event.Fact, "An order's payment was captured, once.",
		CapturedPayment{OrderID: exOrder, PaymentID: exPayment, Amount: exTotal})

	PaymentVoided = event.Define(namespace, "payments.voided", 1, event.Fact, "No money is reserved for an order.",
		VoidedPayment{OrderID: exOrder, PaymentID: exPayment},
		VoidedPayment{OrderID: exOrder})

	PaymentRefunded = event.Define(namespace, "payments.refunded", 1, event.Fact, "An order's payment was refunded, once.",
		RefundedPayment{OrderID: exOrder, PaymentID: exPayment, Amount: exTotal},
		RefundedPayment{OrderID: exOrder, Amount: exTotal})
)
