// Package orders accepts customers' orders and brings each to its end: confirmed or cancelled.
//
//	consumes inventory.reserved, .refused, .released; payments.authorized, .declined, .captured, .voided, .refunded;
//	         catalog.product-changed; orders.deadline, from itself through the clock
//	emits    orders.placed, .confirmed, .cancelled, and the commands of its saga to inventory and payments
//	         and sagas.stuck
//	serves   POST, GET /api/orders; GET /api/orders/{id}; POST /api/orders/{id}/cancellation; /api/sagas/order for admins
//	owns     orders and orders_events (a journal), products (a copy of the catalogue)
//
// Placing an order starts a saga (saga.go declares it): reserve the stock, authorize the payment, capture it. Then the
// order is confirmed and the stock is shipped. If stock or payment is refused, a step misses its deadline, or the
// customer cancels, every step is undone first, and only then is the order cancelled: a cancelled order holds no money
// and no stock. Confirmed and cancelled are final.
//
// An order is event-sourced (journal.go); the API shows the journal's snapshot. Facts may come twice, late or out of
// order: one that the saga does not wait for changes nothing. One durable timer per order ends the wait for an answer
// that never comes. A fact about an unknown order is refused for good and becomes a dead letter.
//
// Prices are those of the copy of the catalogue at the time of the order. The copy never goes back to an older version
// of a product, and may be behind the catalogue for a moment.
package orders
