package function

import (
	"context"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// handler handles one event, decoded or not.
type handler func(ctx context.Context, tx *Tx, e ce.Event) error

// subscription is a type of event and its handler.
type subscription struct {
	info   *event.Info
	handle handler
	reads  bool // an older version, which is read as the one that the function subscribes to
}

// On subscribes to a type of event. The data is checked against its schema before the handler runs; data that fails is
// a dead letter. A type has one handler; a second one panics. The handler also gets the older versions that the type
// reads, see event.Upcast, unless they have a handler of their own.
func On[T any](f *Function, t event.Type[T], h func(ctx context.Context, tx *Tx, data T) error) {
	if known, twice := f.subscriptions[t.Name()]; twice && !known.reads {
		panic("function " + f.name + " subscribes to " + t.Name() + " twice")
	}
	decode := revealed(f, t)
	handle := func(ctx context.Context, tx *Tx, e ce.Event) error {
		data, err := decode(e)
		if err != nil {
			return err
		}
		return h(ctx, tx, data)
	}
	f.subscriptions[t.Name()] = subscription{t.Info(), handle, false}
	for _, old := range t.Info().Older() {
		if _, known := f.subscriptions[old.Name]; !known {
			f.subscriptions[old.Name] = subscription{old, f.unlessSentAs(handle), true}
		}
	}
}

// unlessSentAs returns the handler of an older version, which leaves out what the function gets in the newer one too.
func (f *Function) unlessSentAs(h handler) handler {
	return func(ctx context.Context, tx *Tx, e ce.Event) error {
		if _, beside := f.subscriptions[event.Extension(e, event.SentAs)]; beside {
			return nil
		}
		return h(ctx, tx, e)
	}
}

// OnAny subscribes to every event, whatever its type.
func OnAny(f *Function, h func(ctx context.Context, tx *Tx, e ce.Event) error) { f.any = h }

// OnDeadLetter handles the events that could not be delivered, of every trigger.
func OnDeadLetter(f *Function, h func(ctx context.Context, tx *Tx, e ce.Event) error) {
	f.deadLetter = h
}

// Prefetch names documents that handling an event will read, so that those of a whole batch are read in one call of the
// store. It is a hint: what it does not name is read when it is asked for. Several calls add up.
func Prefetch(f *Function, keys func(e ce.Event) []store.Key) {
	if before := f.prefetch; before != nil {
		f.prefetch = func(e ce.Event) []store.Key { return append(before(e), keys(e)...) }
		return
	}
	f.prefetch = keys
}

// OnTick runs when the host's clock ticks. Ticks come from the host directly and may come late, twice or not at all.
func OnTick(f *Function, h func(ctx context.Context, tx *Tx, now time.Time) error) { f.tick = h }

// kitConsumer is an event that the kit consumes in the name of functions.
type kitConsumer struct {
	info     *event.Info
	consumes func(*Function) bool       // whether it does so for a function
	handle   func(next handler) handler // returns the kit's handler, which calls next, the function's own, if not nil
}

// kitConsumers are those events by type, without the clock's sweep, which every function with events consumes.
var kitConsumers = map[string]kitConsumer{
	event.AccessRevoked.Name(): {event.AccessRevoked.Info(), (*Function).checksRevocations, learnRevocation},
	event.APIKeyChanged.Name(): {event.APIKeyChanged.Info(), (*Function).learnsKeys, learnKey},
	event.PersonErased.Name():  {event.PersonErased.Info(), (*Function).hasPersonKeys, learnErasure},
}

// consumedByKit returns the types that the kit consumes in the name of the function, without the clock's sweep.
func (f *Function) consumedByKit() (all []*event.Info) {
	for _, c := range kitConsumers {
		if c.consumes(f) {
			all = append(all, c.info)
		}
	}
	return all
}

// handlerOf returns the handler of an event, or why it has none. Both are nil for an event that only starts the
// function.
func (f *Function) handlerOf(e ce.Event) (handler, error) {
	if e.Context == nil {
		return nil, fault.New(fault.Invalid, "this is not a CloudEvent")
	}
	if err := event.Valid(e); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "this is not a valid CloudEvent: %v", err)
	}
	if f.isDeadLetter(e) {
		return f.deadLetter, nil
	}
	own := f.any
	if s, ok := f.subscriptions[e.Type()]; ok {
		own = s.handle
	}
	if c, ok := kitConsumers[e.Type()]; ok && c.consumes(f) {
		return c.handle(own), nil
	}
	if e.Type() == event.ClockSwept.Name() && f.followUp != nil {
		return f.sweepThen(own), nil
	}
	if own != nil {
		return own, nil
	}
	if e.Type() == event.ClockSwept.Name() {
		return handleSweep, nil
	}
	if f.prewarm[e.Type()] != nil {
		return nil, nil
	}
	return nil, fault.New(fault.Invalid, "function %s does not consume events of type %q", f.name, e.Type())
}

// handleSweep does nothing: that the event arrived has the outbox looked through.
func handleSweep(context.Context, *Tx, ce.Event) error { return nil }

// sweepThen returns the handler of the clock's sweep that looks for what a crash has left to do, and then calls own.
func (f *Function) sweepThen(own handler) handler {
	return func(ctx context.Context, tx *Tx, e ce.Event) error {
		if err := f.followUp.sweep(ctx, tx); err != nil || own == nil {
			return err
		}
		return own(ctx, tx, e)
	}
}

// isDeadLetter reports whether e is a dead letter that the function keeps.
func (f *Function) isDeadLetter(e ce.Event) bool {
	return f.deadLetter != nil && event.Extension(e, broker.ErrorDest) != ""
}

// label returns a type as metrics and traces have it: never what a sender made up.
func (f *Function) label(eventType string) string {
	_, kit := kitConsumers[eventType]
	kit = kit || eventType == event.ClockSwept.Name()
	if _, ok := f.subscriptions[eventType]; ok || f.emits[eventType] != nil || kit {
		return eventType
	}
	if f.any != nil || f.receiver != nil {
		if _, known := f.systemTypes()[eventType]; known {
			return eventType
		}
	}
	return "_OTHER" // OpenTelemetry's semantic conventions
}

// systemTypes returns the event types of the system.
func (f *Function) systemTypes() event.Catalogue {
	f.typesOnce.Do(func() { f.allTypes = f.env.System().Types() })
	return f.allTypes
}
