// Package events is the contract between the functions of Ebb: every type of
// event one of them may say and another may hear, what its data looks like, and
// examples of it. There is one file per producing capability; a command stands
// in the file of the capability that carries it out.
//
// A type is named dev.ebb.<capability>.<what>.v<N>: a fact in the past tense, a
// command in the imperative. Its data has a JSON Schema, derived from the Go
// struct, that holds when an event is emitted and again when it is received.
// An optional field may be added and the version stays; whatever a reader could
// trip over is a new version, said beside the old one until nobody reads that.
// The files under testdata are kept for ever and hold us to it.
//
// Ids are opaque to whoever reads them: ours are UUIDs of version 7, but a reader
// only compares them. Amounts are integers in minor units with a currency,
// times RFC 3339, and no data holds a secret.
package events

// Money is an amount in minor units (cents) of an ISO 4217 currency.
type Money struct {
	Amount   int64  `json:"amount" min:"0" max:"1000000000000000" doc:"In minor units of the currency."`
	Currency string `json:"currency" pattern:"^[A-Z]{3}$" doc:"ISO 4217 code."`
}
