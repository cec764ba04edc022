// Package event is the contract between functions: event types, the JSON Schema of their data, and the rules by which
// they may change.
//
// A product has a Namespace and defines its types in it, one variable each:
//
//	var shop = event.NewNamespace("com.example.shop", "https://shop.example.com/schemas/")
//
//	var OrderPlaced = event.Define(shop, "orders.placed", 1, event.Fact, "A customer has ordered.",
//		PlacedOrder{OrderID: "o-1", Total: 4200})
//
// A type is named PREFIX.FUNCTION.WHAT.vVERSION: a fact in the past tense, a command in the imperative. Data is checked
// against its schema when it is emitted and when it is received. An optional field may be added and the version stays;
// any other change is a new version, emitted beside the old one until no function consumes that. Package
// eventtest checks this with golden files.
//
// The kit's own types are here too: what the clock and the archive are asked and emit.
package event
