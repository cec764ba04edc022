// Package views keeps read models, built from nothing but events: the list of orders, what was earned and spent per day,
// and the products with their stock.
//
// Hears users.registered, users.changed, users.deleted, catalog.product-changed, inventory.stock-changed, orders.placed,
// orders.confirmed, orders.cancelled, and archive.replayed. Says archive.replay, when it is to be built anew.
//
// Owns one document per order and one per day, customer and currency, both under the generation that they belong
// to; the names of users and products, and the stock, which are joined when somebody reads, so that a rename rewrites nothing and
// a user's name is erased at one place; and which generation is live.
//
// Events may come in any order and more than once: what is known of an order only grows, confirmed is
// stronger than cancelled, and the order's own document remembers whether it was counted in the revenue.
// Of a user, a product or its stock the latest word holds.
//
// To build the views anew, the archive says everything again while a new generation grows beside the live one.
// Live events go into both, replayed ones only into the new one. It takes over, in one transaction, when as many replayed
// events were handled as archive.replayed says there were, since that may overtake the last of them. The old
// generation's documents are removed a few at a time, with the events that come anyway: nothing runs by itself here.
package views
