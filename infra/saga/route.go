package saga

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
)

// router has the sagas of one function by the types of event that they consume. Two sagas may consume one type: an
// event then goes to the saga whose command caused it, and where no saga knows the cause, to each that exists.
type router struct {
	routes map[string]*route // by the type of event
}

// route is the sagas that consume one type of event, in the order of their declaration.
type route struct {
	as    *event.Info
	sagas []listener
}

// listener is one saga of a route.
type listener struct {
	strict bool // it ignores events about sagas that do not exist

	// look reports whether the saga that the event is about exists, and whether one of its commands caused the event.
	look func(ctx context.Context, tx *function.Tx) (exists, asked bool, err error)

	// answer hands the event over. Alone is whether it can be meant for no other saga.
	answer func(ctx context.Context, tx *function.Tx, as *event.Info, data json.RawMessage, alone bool) error
}

// routerOf returns the router of a function.
func routerOf(f *function.Function) *router {
	r := function.Part[router](f)
	if r.routes == nil {
		r.routes = map[string]*route{}
	}
	return r
}

// add declares that a saga of the function consumes the type.
func (r *router) add(f *function.Function, as *event.Info, l listener) {
	if known := r.routes[as.Name]; known != nil {
		known.sagas = append(known.sagas, l)
		return
	}
	to := &route{as, []listener{l}}
	r.routes[as.Name] = to
	function.On(f, event.Raw(as), to.handle)
}

// shared reports whether another saga of the function consumes one of the types too.
func (r *router) shared(types []string) bool {
	return slices.ContainsFunc(types, func(name string) bool { return len(r.routes[name].sagas) > 1 })
}

// handle hands an event to the saga that it is about. An event about none is refused, unless one of the sagas is
// strict.
func (r *route) handle(ctx context.Context, tx *function.Tx, data json.RawMessage) error {
	if len(r.sagas) == 1 {
		return r.sagas[0].answer(ctx, tx, r.as, data, true)
	}
	var found []listener
	for _, l := range r.sagas {
		exists, asked, err := l.look(ctx, tx)
		switch {
		case err != nil:
			return err
		case asked:
			return l.answer(ctx, tx, r.as, data, true)
		case exists:
			found = append(found, l)
		}
	}
	if len(found) == 0 {
		i := slices.IndexFunc(r.sagas, func(l listener) bool { return l.strict })
		found = append(found, r.sagas[max(i, 0)])
	}
	for _, l := range found {
		if err := l.answer(ctx, tx, r.as, data, len(found) == 1); err != nil {
			return err
		}
	}
	return nil
}
