// Package inventory stores the stock of each product and reserves stock for orders.
//
//	consumes inventory.reserve, inventory.release, inventory.ship
//	emits    inventory.reserved, .refused, .released, .shipped, and .stock-changed for every changed product
//	serves   GET, PUT /api/stock/{product_id}
//	owns     stock (by product) and reservations (by order)
//
// For each product, always: initial = available + reserved + shipped.
//
// An order has one reservation, for all its lines or for none. The reservation's status decides what a command does, so
// a command may come twice, late or too early. A command that changes nothing emits the event of the present status
// again. A release that comes before its reserve is stored, so that the reserve then reserves nothing. A command that
// can never succeed (shipping released stock) is refused for good.
//
// The events of a batch share one unit of work: a product that is in many orders is read and written once for all
// of them. A refusal is final, also when stock is added later.
package inventory
