// Package orders takes customers' orders and sees each through to its end: confirmed or cancelled.
//
//	hears  inventory.reserved, .refused, .released; payments.authorized, .declined, .captured, .voided, .refunded;
//	       catalog.product-changed; orders.deadline, from itself by way of the clock
//	says   orders.placed, .confirmed, .cancelled, and the commands of its saga to inventory and payments
//	serves POST, GET /api/orders; GET /api/orders/{id}; POST /api/orders/{id}/cancellation
//	keeps  orders and orders_events (a journal), products (a copy of the catalogue)
//
// Placing an order starts a saga (saga.go draws it): reserve the stock, authorize the payment, capture
// it. Then the order is confirmed and the stock leaves. If stock or payment is refused, a step takes too
// long, or the customer cancels, everything is undone first, and only then is the order cancelled: a cancelled order holds
// no money and no stock. Confirmed and cancelled are final.
//
// An order is event-sourced; what the API shows is the journal's snapshot. Facts may come twice, late or out
// of order: one that the saga does not wait for changes nothing. One durable timer per
// order makes sure that silence ends too. A fact about an order that is not ours is a dead letter.
//
// Prices are those of the copy of the catalogue at the time of the order. The copy never goes back to
// an older version of a product, and may be a moment behind the catalogue.
package orders
