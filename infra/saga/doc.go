// Package saga runs business transactions that span functions. A saga is declared as a list of steps; the kit stores
// the progress of each, sets its timers, emits its commands, receives the answers, undoes what was done when a step
// fails, and serves the operations with which a person looks at sagas and mends them.
//
//	trips, err := saga.New(f, saga.Declaration[trip]{
//		Name: "trip",
//		Steps: []saga.Step[trip]{{
//			Name: "flight", Deadline: 30 * time.Second,
//			Command: saga.Send(events.FlightBook, trip.flight), // func (t trip) flight() events.BookFlight
//			Done:    saga.Apply(events.FlightBooked, func(t *trip, e events.BookedFlight) { t.Seat = e.Seat }),
//			Failed:  events.FlightRefused,
//			Undo:    saga.Send(events.FlightCancel, trip.flight),
//			Undone:  events.FlightCancelled,
//		}, {
//			Name: "payment", Deadline: 30 * time.Second, Pivot: true,
//			Command: saga.Send(events.PaymentCharge, trip.price),
//			Done:    events.PaymentCharged, Failed: events.PaymentDeclined,
//		}},
//	})
//
//	t, err := trips.Start(ctx, tx, tx.NewID(), trip{Customer: tx.Principal().Subject}) // in a handler of the function
//
// The state of a saga, here trip, is a struct that embeds [Instance]. The commands are made of it, and answers may
// change it. Everything commits in the unit of work of the handler, together with what else the handler writes.
//
// # Forward
//
// Steps run one after the other, or in parallel where [Step].After says so. A step begins with its command and is done
// by the answer. A step without a command waits: for an event from outside, or for a person, for whom a handler calls
// [Saga.Complete] or [Saga.Fail]. A step whose When returns false is skipped. When every step is done the saga is
// completed.
//
//	running ──every step done──▶ completed
//	   │ a failure, a deadline, a cancel
//	   ▼
//	undoing ──everything undone──▶ undone
//
// # Backward
//
// A saga is undone when a step fails, when an answer does not come within the step's deadline, and when it is
// cancelled. Undoing goes backwards over every step that was done and over those in doubt, whose command may have taken
// effect although the answer has not arrived. The undo of a step is sent again each time that its confirmation does not
// arrive within its deadline, so a saga that is undone holds nothing. A step that failed has nothing to undo. Once the
// step that is marked as Pivot is done, the saga only goes forward, and later steps are sent again instead.
//
// The receivers of commands must be idempotent and must store an undo that overtakes its command.
//
// # Several sagas
//
// A function may run several sagas, even several that wait for the same type of event. Their ids differ, but for a
// child and the saga of the same function whose step it carries out. An event is for the saga with the id of its
// subject.
// Where both a child and that saga have the id, the event is for the one whose command caused it, and an event from
// outside is for each of the two that waits for it. Sagas of several functions that consume the same type are Strict.
//
// # Answers
//
// An answer belongs to the saga that its subject names, and to the step whose command its causationid names. An answer
// to another command of the saga, such as one that comes a second time, changes nothing. Where the causationid names no
// command of the saga, because the receiver does not set it, the type of the event decides, unless it completes several
// steps.
//
// # Stuck
//
// A saga is stuck when an undo, or a command after the pivot, was sent again [Declaration].StuckAfter times without an
// answer, or when it comes to a step that no declaration has. It is then tried less and less often, up to once an hour.
// The function emits sagas.stuck, logs an error and counts the metric ebb.sagas.stuck, once. An operator lists such
// sagas and retries, skips a step, cancels or ends one with the operations below [PathPrefix], which the function
// serves, or with the command "ebb sagas".
//
// # Versions
//
// A saga stores the names of its steps when it starts, and runs on them to its end. A declaration with other steps gets
// a higher Version. The steps of the declaration before stay in Earlier for as long as sagas run on them, which
// "ebb sagas list" shows. A step is looked up by its name in the declaration of the saga's version, then in the newer
// and older ones. An instance that runs an older build leaves the sagas of a newer version alone, since a step may mean
// something else there: it refuses their events, which are delivered again to a newer instance, and answers 503 to
// requests about them. After a rollback they wait for the newer build, or for an operator who ends them.
package saga
