// Package function is what an author writes a function with: typed HTTP operations, event subscriptions, and the unit
// of work around each handler, so that a handler may run twice and its effects happen once.
//
//	func New(env function.Env) (*function.Function, error) {
//		f := function.New("payments", env)
//		p := &payments{payments: function.Collection[payment](f, "payments")}
//		function.Serve(f, getPayment, p.get)                 // HTTP: typed in, typed out
//		function.On(f, events.PaymentAuthorize, p.authorize) // event: typed data in
//		function.Emits(f, events.PaymentAuthorized, events.PaymentDeclined)
//		return f, nil
//	}
//
// Declarations are calls of package functions with the *Function first: Serve, On, OnAny, OnTick, Collection, Emits,
// Configure, Concurrency and so on. They are made in New and open nothing. A host then runs the function's Instance;
// what a function declares can be had without running it, see Declare.
//
// A handler only decides. It reads and writes collections, emits events and sets timers through its Tx, and all of that
// commits together or not at all. The kit then publishes the events and answers. What a crash, or a failure of the
// broker, leaves:
//
//   - before the commit: nothing happened; the client retries, or the broker delivers again.
//   - after the commit, before the events are published: they wait in the outbox. The broker delivers the message
//     or the client repeats its Idempotency-Key, and that publishes the events of this message; or the function starts,
//     or the clock sweeps, and that publishes all that is left. A change is answered as done to a client even when its
//     events could not be published. An event is acknowledged to the broker only when the events that its handler
//     emitted are published.
//   - after that, before the answer: the events may be published twice; the inbox of each consumer drops the second.
//
// An inbox remembers an event for three days. An event that arrives again later than that is handled again.
//
// The pattern is the transactional outbox with idempotent consumers (microservices.io), without a relay process,
// because nothing runs while a function is at zero. Each part has its file: unit.go, inbox.go, outbox.go (the states
// and the policy of the outbox), relay.go, quarantine.go, idempotency.go, timer.go, retention.go, revocation.go.
package function
