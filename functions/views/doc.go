// Package views stores read models that are built only from events: the list of orders, revenue and spending per day,
// and the products with their stock.
//
// It consumes users.registered, users.changed, users.deleted, catalog.product-changed, inventory.stock-changed,
// orders.placed, orders.confirmed, orders.cancelled, and archive.replayed. It emits archive.replay to start a rebuild.
//
// It owns one document per order, and one per day, customer and currency, both with the number of their generation; the
// sums of all customers in parts, so that instances do not wait for each other; the names of users and products, and
// the stock, which are joined when a list is read, so that a rename changes no other document and a deleted user's name
// is erased in one place; and the number of the live generation.
//
// Events may come in any order and more than once: each event of an order adds to its document, confirmed takes
// precedence over cancelled, and the document records whether it was counted in the revenue. Of a user, a product or
// its stock the latest version counts.
//
// A rebuild starts a new generation beside the live one and asks the archive to replay the events. Live events are
// written to both generations, replayed ones only to the new one. The new generation becomes the live one, in one
// transaction, when as many replayed events were handled as archive.replayed has counted; the count is needed because
// archive.replayed may arrive before the last of them. The documents of the old generation are removed a few at a time,
// when other events are handled, because no process runs between events.
package views
