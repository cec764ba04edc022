// Package payments authorizes, captures, voids and refunds the payments of orders.
//
//	consumes payments.authorize, payments.capture, payments.void, payments.refund, flags.changed
//	emits    payments.authorized, .declined, .captured, .voided, .refunded; flags.announce
//	serves   GET /api/payments/{id}
//	owns     payments, one per order; a payment has the order's id
//
// The status of a payment decides what a command does, so a command may come twice, late or too early; payment.go has
// the table. An authorize or a capture that changes nothing emits the event of the present status again; a void or a
// refund that changes nothing emits voided or refunded again. A void that comes before its authorize is stored, and the
// authorize is then not carried out.
//
// The provider is called by outside calls (infra/outside), one by one for each event and many of them concurrently: a
// command commits that the provider is to be asked, and its answer commits as the next unit of work. Each call has one
// key for its order and operation, and is made again under it until the provider has answered. Where the provider needs
// it, the payment's reference is committed before money moves: a void then finds every payment that a crash left. A
// command that comes while the same call is under way is answered by the result of that one.
//
// A payment of 0 is authorized and captured without the provider. The feature flag payments-accepted declines new
// payments before the provider is asked: all of them, or by currency, amount or customer.
//
// A replayed event moves no money and emits nothing.
package payments
