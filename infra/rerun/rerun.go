// Package rerun declares how the past of a function is run again by the time machine, package timemachine, where its
// events do not tell that by themselves. A product lists the Recipe of a function beside its constructor:
//
//	system.Definition{Name: "orders", New: orders.New, Rerun: orders.Rerun()}
//
// Events tell what a function has emitted. They do not tell which request it got, which documents it had, and what the
// services outside of the system have answered. A recipe makes these again, from the events that were recorded. What a
// recipe does not make is given to the run as it was recorded, or is missing there, and the time machine tells so.
package rerun

import (
	"encoding/json"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/function"
)

// Past is what was recorded. It belongs to one run and one goroutine.
type Past interface {
	// About returns the recorded events about an entity, in the order of their arrival. The id is the recorded one, or the
	// one that the entity has in the run. The caller must not change the events.
	About(id string) []ce.Event
}

// Recipe makes again what the events of a function do not tell. A part that is nil makes nothing.
type Recipe struct {
	// Request returns the request that has made the function emit events: all those without a cause that it has emitted
	// with one correlation. ok is false when they do not tell enough.
	Request func(emitted []ce.Event, past Past) (r Request, ok bool)

	// Document returns the document that the function had after one of its facts. ok is false when the fact does not tell
	// it.
	Document func(fact ce.Event) (d Document, ok bool)

	// Doubles declares the function, in place of its constructor, with doubles of the services outside of the system that
	// answer as they have answered. Without them the function is made with its default settings.
	Doubles func(env function.Env, past Past) (*function.Function, error)
}

// Request is a request to the function. Its principal has the subject and the roles; without a subject it is anonymous.
type Request struct {
	Method, Path string // /api/orders, with a query if there is one
	Subject      string
	Roles        []string
	Header       map[string]string
	Body         any // is sent as JSON; nil: none
}

// Document is a document of the function's database.
type Document struct {
	Collection, ID string
	Data           json.RawMessage
}
