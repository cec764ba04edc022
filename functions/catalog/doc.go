// Package catalog stores the products that the shop sells: their names and prices.
//
// It consumes no events.
//
// It emits catalog.product-changed, with the whole product, for every version of every product; so the
// sequence of a product's events has no gaps, and a consumer needs only the latest one.
//
// It owns the collection products. A removed product stays there, marked as deleted, because the sequence of
// its last event is its version, and its id must not be used again.
//
// A request that is repeated with the same Idempotency-Key is carried out once. A change names the version that
// it was made for (If-Match), so of two concurrent changes the second is refused and does not overwrite the first.
package catalog
