// Package catalog knows what the shop sells: names and prices.
//
// Hears: nothing.
//
// Says: catalog.product-changed, with the whole product, for every version of every product; so the
// sequence of a product's events has no gaps and the latest event is all a reader needs.
//
// Owns the collection products. A product that was taken off stays there, marked, because its
// last event is numbered after it and its id must not come back.
//
// Delivery: there is nothing to receive. A request that comes twice under one Idempotency-Key is
// carried out once. A change names the version it was made for (If-Match), so of two that
// were made at once the second is refused and not lost.
package catalog
