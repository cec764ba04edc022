// Package events is the contract between the shop's functions: its event types, their data and examples of it. There is
// one file per function; a command is in the file of the function that carries it out.
//
// Ids are opaque: the shop's are UUIDs of version 7, but a consumer only compares them. Amounts are integers in minor
// units with a currency, times are in RFC 3339, and no data is a lasting secret. The files under testdata are never
// changed or removed: the tests compare today's types with them. See package infra/event for the rules.
package events

import "github.com/ebb-dev/ebb/infra/event"

var namespace = event.NewNamespace("dev.ebb", "https://ebb.dev/schemas/")

// Types returns every event type of the shop, sorted by name. The kit's own types are event.KitTypes.
func Types() []*event.Info { return namespace.Types() }

// Money is an amount in minor units (cents) of an ISO 4217 currency.
type Money struct {
	Amount   int64  `json:"amount" min:"0" max:"1000000000000000" doc:"In minor units of the currency."`
	Currency string `json:"currency" pattern:"^[A-Z]{3}$" doc:"ISO 4217 code."`
}
