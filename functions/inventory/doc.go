// Package inventory knows how much of each product there is, and keeps stock for orders.
//
//	hears  inventory.reserve, inventory.release, inventory.ship
//	says   inventory.reserved, .refused, .released, .shipped, and .stock-changed for every product touched
//	serves GET, PUT /api/stock/{product_id}
//	keeps  stock (by product) and reservations (by order)
//
// For each product, always: initial = available + reserved + shipped.
//
// An order has one reservation, of all its lines or none, and its status decides what a command
// does; so a command may come twice, late or before its time. One that can do nothing any more is
// answered with the fact that stands. A release that comes before its reserve is remembered, so that the reserve
// keeps nothing. What can never come right (shipping what was released) is refused for good.
//
// Events come in batches, and those of a batch share a unit of work: a product that every order wants is
// read and written once for all of them. A refusal is final even when stock comes back in.
package inventory
