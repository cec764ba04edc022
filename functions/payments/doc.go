// Package payments sets money aside for orders, takes it, and gives it back.
//
//	hears  payments.authorize, payments.capture, payments.void, payments.refund
//	says   payments.authorized, .declined, .captured, .voided, .refunded
//	serves GET /api/payments/{id}
//	keeps  payments, one per order, under the order's id, which is the payment's too
//
// The status of a payment decides what a command does, so a command may come twice, late or
// before its time; payment.go has the table. One that asks forward and can do nothing any more is
// answered with the fact that stands; a void or a refund with its own. A void
// that comes before its authorize is remembered, and the authorize is not carried out.
//
// The money is with a provider, far away: events are handled one by one, many at a time. A handler may run
// again after its call has worked, so calls are idempotent by the order and the operation, and a
// provider that needs it names the payment in a commit of its own before money moves: whatever
// stops when, a void finds what there may be.
//
// A replayed event moves no money and says nothing.
package payments
