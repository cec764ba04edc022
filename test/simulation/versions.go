package simulation

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/functions/orders"
	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/saga"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
)

// added is the member that the next version of every function has in its documents and in the data of its events, and
// that the previous version does not know.
const added = `"added_by_the_next_version":{"is":[1,"kept"]}`

// schemas follows documents through a change of their schema, while functions run in two versions at once.
type schemas struct {
	sim   *simulate.Simulation
	added map[place]bool // the documents that have the member

	committed func(function string, b store.Batch) // is told of each commit
}

type place struct {
	function string
	store.Key
}

// change gives a function a next version whose documents and events have one more member, and reports a violation when
// a write of the previous version loses it.
func (s *schemas) change(c *simulate.Function) {
	first, next := c.New, c.Next
	c.New = func(e function.Env) (*function.Function, error) {
		e.Store = s.open(e.Store, nil)
		return first(e)
	}
	c.Next = func(e function.Env) (*function.Function, error) {
		e.Store = s.open(e.Store, withMember)
		e.Publisher = addingPublisher{e.Publisher}
		return next(e)
	}
}

func (s *schemas) open(open store.Opener, change func(store.Batch) store.Batch) store.Opener {
	return func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
		db, err := open(ctx, name, schema)
		if err != nil {
			return nil, err
		}
		return &versioned{db, s, name, change}, nil
	}
}

// versioned is the store of one version of a function.
type versioned struct {
	store.Driver
	schemas  *schemas
	function string
	change   func(store.Batch) store.Batch // nil: of the previous version
}

// erases reports whether a mutation erases a person: nothing that another version has stored may stay.
func erases(m store.Mutation) bool {
	return m.Collection == "users" && bytes.Contains(m.Data, []byte(`"deleted":true`))
}

// Commit implements store.Driver.
func (v *versioned) Commit(ctx context.Context, b store.Batch) error {
	if v.change != nil {
		b = v.change(b)
	}
	if err := v.Driver.Commit(ctx, b); err != nil {
		return err
	}
	s := v.schemas
	s.committed(v.function, b)
	for _, m := range b.Mutations {
		at := place{v.function, m.Key}
		has := bytes.Contains(m.Data, []byte(added))
		if erases(m) && has && v.change == nil {
			s.sim.Violated("%s keeps what its next version has stored of an erased person: %s", v.function, m.ID)
		}
		if m.Version > 1 && m.Data != nil && !has && s.added[at] && !erases(m) {
			s.sim.Violated("%s loses what its next version has added to %s of %s", v.function, m.ID, m.Collection)
		}
		s.added[at] = has
	}
	return nil
}

// Pause forwards to the simulated store, which store.Update waits with.
func (v *versioned) Pause(ctx context.Context, n int) {
	v.Driver.(interface{ Pause(context.Context, int) }).Pause(ctx, n)
}

// withMember returns the batch with the member added to all documents except the kit's own, such as "_inbox".
func withMember(b store.Batch) store.Batch {
	mutations := make([]store.Mutation, len(b.Mutations))
	for i, m := range b.Mutations {
		if m.Data != nil && m.Collection[0] != '_' {
			m.Data = with(m.Data)
		}
		mutations[i] = m
	}
	b.Mutations = mutations
	return b
}

// with returns an object with the member added, if it lacks it.
func with(object []byte) []byte {
	if len(object) < 2 || object[0] != '{' || bytes.Contains(object, []byte(added)) {
		return object
	}
	out := append([]byte{'{'}, added...)
	if object[1] != '}' {
		out = append(out, ',')
	}
	return append(out, object[1:]...)
}

// without returns an object without the member.
func without(object []byte) string {
	s := strings.Replace(string(object), added+",", "", 1)
	return strings.Replace(s, ","+added, "", 1)
}

// addingPublisher adds the member to the data of events.
type addingPublisher struct{ broker.Publisher }

// Publish implements broker.Publisher.
func (p addingPublisher) Publish(ctx context.Context, es ...ce.Event) error {
	changed := make([]ce.Event, len(es))
	for i, e := range es {
		changed[i] = e.Clone()
		changed[i].DataEncoded = with(e.DataEncoded)
	}
	return p.Publisher.Publish(ctx, changed...)
}

// changedOrders returns how the next version of orders changes its saga: by the seed, a step is inserted at any place,
// appended or renamed, or nothing changes.
func changedOrders(seed uint64) func([]saga.Step[orders.State]) []saga.Step[orders.State] {
	reserveAgain := saga.Step[orders.State]{
		Name: "check", Deadline: 20 * time.Second, Done: events.InventoryReserved,
		Command: saga.Send(events.InventoryReserve, func(o orders.State) events.ReserveStock {
			all := make([]events.StockLine, len(o.Lines))
			for i, l := range o.Lines {
				all[i] = events.StockLine{ProductID: l.ProductID, Quantity: l.Quantity}
			}
			return events.ReserveStock{OrderID: o.ID, Lines: all}
		}),
	}
	return func(own []saga.Step[orders.State]) []saga.Step[orders.State] {
		switch at := int(seed % 6); at {
		case 4:
			own[1].Name = "hold"
			return own
		case 5:
			return own
		default:
			return slices.Insert(own, max(at, 1), reserveAgain)
		}
	}
}
