package saga

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
)

func steps() []Step[order] {
	send := func(typ event.Type[orderData]) *Command[order] {
		return Send(typ, func(o order) orderData { return orderData{OrderID: o.ID} })
	}
	return []Step[order]{
		{
			Name: "reserve", Deadline: 10 * time.Second,
			Command: send(types.reserve), Done: types.reserved, Failed: types.refused,
			Undo: send(types.release), Undone: types.released,
		},
		{ // cannot be undone, and need not be
			Name: "note", Deadline: 20 * time.Second, Command: send(types.note), Done: types.noted,
		},
		{
			Name: "capture", Deadline: 30 * time.Second, Pivot: true,
			Command: send(types.capture), Done: types.captured, Failed: types.declined,
			Undo: send(types.refund), Undone: types.refunded,
		},
		{Name: "ship", Deadline: 40 * time.Second, Command: send(types.ship), Done: types.shipped},
	}
}

// machine is a saga without a function: it stores the state and what was sent.
type machine struct {
	g     *Saga[order]
	now   time.Time
	state order
	told  []Stuck
	ids   int
	asked []ce.Event // the commands that were sent
}

func newMachine(t testing.TB, d Declaration[order]) *machine {
	t.Helper()
	d.Name, d.Version = "order", max(d.Version, 1)
	if err := d.check(); err != nil {
		t.Fatal(err)
	}
	m := &machine{now: start}
	m.declare(d)
	return m
}

// declare replaces the declaration, as a deploy does.
func (m *machine) declare(d Declaration[order]) {
	m.g = &Saga[order]{d: d, byName: map[int]map[string]*Step[order]{}, instance: (*order).instance}
	m.g.declare(max(d.Version, 1), d.Steps)
	for v, s := range d.Earlier {
		m.g.declare(v, s)
	}
	slices.SortFunc(m.g.versions, func(a, b int) int { return b - a })
}

// do makes a change and returns the commands that it sends, "-" if nothing has changed.
func (m *machine) do(change func(r *run[order]) error) (string, error) {
	m.state.Saga.adopt(m.g.wasPivot)
	r := &run[order]{
		steps: m.g.step, newest: m.g.versions[0], stuck: 5, now: m.now, state: &m.state, in: &m.state.Instance,
	}
	if err := change(r); err != nil {
		return "", err
	}
	if r.err != nil {
		return "", r.err
	}
	if !r.changed {
		return "-", nil
	}
	var sent []string
	for _, c := range r.sends {
		m.ids++
		e := ce.New()
		e.SetID(fmt.Sprint("c", m.ids))
		e.SetType(c.info.Name)
		m.state.note(sentKey(c.step, c.undo), e.ID())
		m.asked = append(m.asked, e)
		sent = append(sent, c.info.What)
	}
	m.told = append(m.told, r.told...)
	m.state.Saga.summarize()
	return strings.Join(sent, " "), nil
}

func (m *machine) must(t testing.TB, change func(r *run[order]) error) string {
	t.Helper()
	sent, err := m.do(change)
	if err != nil {
		t.Fatal(err)
	}
	return sent
}

// begin starts the saga.
func (m *machine) begin(t testing.TB) string {
	t.Helper()
	m.state = order{Instance{ID: "o1", Saga: planOf(m.g.d.Steps)}}
	m.state.Saga.Version = m.g.versions[0]
	return m.must(t, func(r *run[order]) error { r.start(); return nil })
}

// answerOf returns an event that the command with the id has caused; "": the event does not say.
func answerOf(eventType, cause string) ce.Event {
	e := ce.New()
	e.SetType("com.example." + eventType + ".v1")
	_ = e.SetData(ce.ApplicationJSON, map[string]string{"order_id": "o1", "reason": "because of " + eventType})
	if cause != "" {
		e.SetExtension(event.CausationID, cause)
	}
	return e
}

// hear hands an event to the saga.
func (m *machine) hear(t testing.TB, e ce.Event) string {
	t.Helper()
	return m.must(t, func(r *run[order]) error { r.answered(reply{e, e.Type(), e.Data()}); return nil })
}

func (m *machine) pass(t testing.TB, d time.Duration) string {
	t.Helper()
	m.now = m.now.Add(d)
	return m.must(t, func(r *run[order]) error { r.expired(r.now); return nil })
}

func (m *machine) cancel(t testing.TB) string {
	t.Helper()
	return m.must(t, func(r *run[order]) error { r.cancel("the customer says so", ""); return nil })
}

// states returns the states of all steps in order.
func (m *machine) states() string {
	var states []string
	for _, s := range m.state.Saga.Steps {
		states = append(states, string(s.State))
	}
	return strings.Join(states, " ")
}
