package simulate

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// The kit's own collections.
const (
	inboxName  = "_inbox"
	outboxName = "_outbox"
)

const (
	aged        = 75 * time.Hour // longer than the kit stores anything
	expiryGrace = 2 * time.Hour
)

// all returns every document of a collection.
func all(schema store.Schema, open store.Opener, function, collection string) []store.Document {
	ctx := context.Background()
	if _, ok := schema.Spec(collection); !ok {
		return nil
	}
	db, err := open(ctx, function, schema)
	if err != nil {
		return nil
	}
	var found []store.Document
	q := store.Query{Collection: collection, Limit: store.MaxLimit}
	for more := true; more; {
		var docs []store.Document
		if docs, more, err = db.Query(ctx, q); err != nil || len(docs) == 0 {
			return found
		}
		found = append(found, docs...)
		q.After = &store.Position{ID: docs[len(docs)-1].ID}
	}
	return found
}

func (sim *Simulation) checkDead() {
	for _, d := range sim.dead {
		if sim.scenario.Refused == nil || !sim.scenario.Refused(d.function, d.e) {
			sim.Violated(DeadLetter, d.text)
		}
	}
	var missing []string
	for p, buried := range sim.poisoned {
		if !buried {
			missing = append(missing, p.event+" for "+p.function)
		}
	}
	slices.Sort(missing)
	for _, text := range missing {
		sim.Violated("an event that no handler accepts was not dead-lettered: %s", text)
	}
}

func (sim *Simulation) isPoison(e ce.Event) bool { return sim.poisonous[e.ID()] != nil }

// checkOutbox stops every function gracefully and checks that its outbox is empty.
func (sim *Simulation) checkOutbox() {
	sim.closing = true
	sim.run(func() bool { return sim.idle() })
	for _, s := range sim.supervisors {
		for _, i := range slices.Clone(s.all) {
			if i.state == up && i.calls == 0 {
				i.state = leaving
				i.stopNow()
			}
		}
	}
	sim.run(func() bool { return sim.running == 0 })
	for _, s := range sim.supervisors {
		left := slices.DeleteFunc(sim.Documents(s.name, outboxName), func(d store.Document) bool {
			return d.ID == badEntryID && bytes.Contains(d.Data, []byte(`"quarantined":`))
		})
		if len(left) > 0 {
			sim.Violated("the outbox of %s has %d entries left", s.name, len(left))
		}
	}
}

// checkAge lets days pass and checks that what has expired is removed.
func (sim *Simulation) checkAge() {
	sim.now += aged
	sim.Note("days pass")
	rounds := 2
	for _, s := range sim.supervisors {
		rounds = max(rounds, 2+len(sim.Documents(s.name, inboxName))/200)
	}
	for n := range rounds {
		sim.publish(sweep(n, sim.Now())) // it wakes every function, as the clock does
		sim.runFor(20 * time.Second)
	}
	sim.Rest(sim.sys.Settle)
	for _, s := range sim.supervisors {
		if s.trigger != nil { // without one only a request wakes it
			sim.CheckExpiry(s.name)
		}
	}
}

// CheckExpiry checks that no collection of the functions has a document that is past its time: by less than two hours,
// for units that had none to spare and for skewed clocks. It is for a Check after some units of work of each.
func (sim *Simulation) CheckExpiry(functions ...string) {
	for _, name := range functions {
		for _, spec := range sim.byName[name].schema {
			if spec.Expiry == nil {
				continue
			}
			for _, d := range sim.Documents(name, spec.Name) {
				if spec.Expiry.Expired(d, sim.Now().Add(-expiryGrace)) {
					sim.Violated("%s keeps a document that is past its time: %s", name, spec.Name+" "+d.ID)
					break
				}
				if spec.Name == inboxName && field(d.Data, `"expires":`) == "" {
					sim.Violated("%s keeps an entry of the inbox that never expires: %s", name, d.ID)
					break
				}
			}
		}
	}
}

// simulationSource is the source of the sweeps that the simulation itself sends.
const simulationSource = "/simulation"

func sweep(n int, at time.Time) ce.Event {
	e := ce.New()
	e.SetID(fmt.Sprint("sweep-", n))
	e.SetSource(simulationSource)
	e.SetType(event.ClockSwept.Name())
	e.SetTime(at)
	_ = e.SetData(ce.ApplicationJSON, event.SweptClock{At: at})
	return e
}

// field returns the digits after a mark in JSON.
func field(data []byte, mark string) string {
	s := string(data)
	for i := 0; i+len(mark) <= len(s); i++ {
		if s[i:i+len(mark)] == mark {
			end := i + len(mark)
			for end < len(s) && s[end] >= '0' && s[end] <= '9' {
				end++
			}
			return s[i+len(mark) : end]
		}
	}
	return ""
}

// checkProjections rebuilds the scenario's projections from the events and compares them with the live ones.
func (sim *Simulation) checkProjections() {
	if len(sim.scenario.Projections) == 0 {
		return
	}
	log := sim.published
	if sim.scenario.Archive != nil {
		log = sim.scenario.Archive(sim)
	}
	for _, p := range sim.scenario.Projections {
		if err := sim.checkProjection(p, log); err != nil {
			sim.Violated("%s cannot be rebuilt: %v", p.Function, err)
		}
	}
}

const replayed = "019b0000-0000-7000-8000-000000000000"

func (sim *Simulation) checkProjection(p Projection, log []ce.Event) error {
	s := sim.byName[p.Function]
	if s == nil {
		return fmt.Errorf("unknown function")
	}
	ctx := context.Background()
	open := memory.Opener()
	env := s.function.Env
	env.Store, env.Publisher, env.Now, env.Logger = open, nowhere{}, sim.Now, discard
	made, err := s.function.version(s.version)(env)
	if err != nil {
		return err
	}
	f := made.Instance()
	if err := f.Start(ctx); err != nil {
		return err
	}
	var batch []ce.Event
	for _, e := range log {
		if slices.Contains(p.Types, e.Type()) && !sim.isPoison(e) && text(e, event.ReplayTo) == "" {
			e = e.Clone()
			e.SetExtension(event.Replay, replayed)
			batch = append(batch, e)
		}
	}
	for part := range slices.Chunk(batch, 100) {
		for n, r := range f.Receive(ctx, part) {
			if !r.OK() {
				return fmt.Errorf("%s: %d %s", part[n].Type(), r.Status, r.Message)
			}
		}
	}
	for _, c := range p.Collections {
		sim.compare(
			p,
			c,
			seen(p, all(s.schema, sim.opener, p.Function, c), true),
			seen(p, all(s.schema, open, p.Function, c), false),
		)
	}
	return nil
}

func seen(p Projection, docs []store.Document, live bool) map[string]string {
	found := make(map[string]string, len(docs))
	for _, d := range docs {
		name, data, ok := d.ID, string(d.Data), true
		if p.Seen != nil {
			name, data, ok = p.Seen(d, live)
		}
		if other, known := found[name]; ok && known && p.Merge != nil {
			data = p.Merge(other, data)
		}
		if ok {
			found[name] = data
		}
	}
	return found
}

func (sim *Simulation) compare(p Projection, collection string, live, rebuilt map[string]string) {
	names := maps.Clone(live)
	maps.Copy(names, rebuilt)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if live[name] != rebuilt[name] {
			sim.Violated("%s of %s does not follow from the events: %s is %q, rebuilt %q",
				collection, p.Function, name, live[name], rebuilt[name])
			return
		}
	}
}

// nowhere is a publisher that drops its events.
type nowhere struct{}

func (nowhere) Publish(context.Context, ...ce.Event) error { return nil }
