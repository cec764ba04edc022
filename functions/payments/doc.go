// Package payments authorizes, captures, voids and refunds the payments of orders.
//
//	consumes payments.authorize, payments.capture, payments.void, payments.refund
//	emits    payments.authorized, .declined, .captured, .voided, .refunded
//	serves   GET /api/payments/{id}
//	owns     payments, one per order; a payment has the order's id
//
// The status of a payment decides what a command does, so a command may come twice, late or too early; payment.go has
// the table. An authorize or a capture that changes nothing emits the event of the present status again; a void or a
// refund that changes nothing emits voided or refunded again. A void that comes before its authorize is stored, and the
// authorize is then not carried out.
//
// The provider is a remote service, so events are handled one by one, many of them concurrently. A handler may run
// again after its call has succeeded. Therefore calls are idempotent by order and operation, and where the provider
// needs it the payment's reference is committed before money moves: a void then finds every payment that a crash left.
//
// A replayed event moves no money and emits nothing.
package payments
