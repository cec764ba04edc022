package simulation_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/broker"
	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/saga"
	"github.com/ebb-dev/ebb/infra/simulate"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/test/simulation"
)

// Sagas with parallel steps, events from outside and children end as they should under all kinds of faults, while
// another version of their declaration is deployed.
func TestJourneys(t *testing.T) {
	around, sys := bubbled(t), simulation.Journeys(simulation.BrokenJourneys{})
	if *tell > 0 {
		around(func() { t.Log(simulate.Trace(sys, *tell)) })
		return
	}
	r := simulate.Runner{System: sys, First: *first, Seeds: *seeds, Around: around, Every: 2 * time.Second}
	if testing.Verbose() {
		r.OnProgress = func(p simulate.Progress) { fmt.Fprintln(os.Stderr, p) }
	}
	p, failed := r.Run(t.Context())
	t.Log(p)
	for _, f := range failed[:min(3, len(failed))] {
		around(func() { t.Errorf("%s", simulate.Shrink(sys, f.Seed)) })
	}
	if p.Done >= 100 && (p.Injected[simulate.Deploy] < p.Done || p.Undone < p.Done || p.Expired < p.Done) {
		t.Errorf("the simulation proves little: %s, %d deploys", p, p.Injected[simulate.Deploy])
	}
}

// stored is a journey as it is stored, with what the mutants change.
type stored struct {
	ID   string              `json:"id"`
	Saga saga.Progress       `json:"saga"`
	Sent map[string][]string `json:"sent,omitempty"`
}

// reading is a store whose documents are changed when they are read.
type reading struct {
	driver
	change func(store.Document) store.Document
}

// Get implements store.Driver.
func (d reading) Get(ctx context.Context, keys ...store.Key) ([]store.Document, error) {
	docs, err := d.driver.Get(ctx, keys...)
	for i := range docs {
		docs[i] = d.change(docs[i])
	}
	return docs, err
}

// byIndex gives each build of trips the progress of sagas by the places of their steps in its own declaration.
func byIndex(sim *simulate.Simulation, c *simulate.Function) {
	if c.Name != "trips" {
		return
	}
	first, next := c.New, c.Next
	in := func(version int, e function.Env) function.Env {
		open := e.Store
		e.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, schema)
			commit := func(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
				return db.Commit(ctx, b)
			}
			return reading{driver{db, nil, commit}, func(d store.Document) store.Document {
				return placed(d, version, simulation.Itinerary(version, sim.Seed()))
			}}, err
		}
		return e
	}
	c.New = func(e function.Env) (*function.Function, error) { return first(in(1, e)) }
	c.Next = func(e function.Env) (*function.Function, error) { return next(in(2, e)) }
}

// meddling gives the older build of trips the sagas of the newer one as if they were its own.
func meddling(_ *simulate.Simulation, c *simulate.Function) {
	if c.Name != "trips" {
		return
	}
	first := c.New
	c.New = func(e function.Env) (*function.Function, error) {
		open := e.Store
		e.Store = func(ctx context.Context, name string, schema store.Schema) (store.Driver, error) {
			db, err := open(ctx, name, schema)
			commit := func(ctx context.Context, db store.Driver, _ broker.Publisher, b store.Batch) error {
				return db.Commit(ctx, b)
			}
			return reading{driver{db, nil, commit}, func(d store.Document) store.Document {
				if d.Collection == "journey" {
					d.Data = bytes.Replace(d.Data, []byte(`"version":2`), []byte(`"version":1`), 1)
				}
				return d
			}}, err
		}
		return first(e)
	}
}

// hurrying gives trips sagas of which every step begins at once, whatever it comes after.
func hurrying(_ *simulate.Simulation, c *simulate.Function) {
	if c.Name != "trips" {
		return
	}
	storing(func(db store.Driver) store.Driver {
		return reading{driver{db, nil, inFull}, func(d store.Document) store.Document {
			var doc map[string]json.RawMessage
			var s stored
			if d.Collection != "journey" || json.Unmarshal(d.Data, &doc) != nil || json.Unmarshal(d.Data, &s) != nil {
				return d
			}
			for i := range s.Saga.Steps {
				s.Saga.Steps[i].After, s.Saga.Steps[i].AtOnce = nil, true
			}
			doc["saga"], _ = json.Marshal(s.Saga)
			d.Data, _ = json.Marshal(doc)
			return d
		}}
	}).Change(c)
}

// placed returns a stored journey with other names for its steps.
func placed(d store.Document, version int, declared []saga.StepProgress) store.Document {
	var doc map[string]json.RawMessage
	var s stored
	if d.Collection != "journey" || json.Unmarshal(d.Data, &doc) != nil || json.Unmarshal(d.Data, &s) != nil ||
		s.Saga.Status.Ended() {
		return d
	}
	sent := map[string][]string{}
	for i, step := range declared {
		if i < len(s.Saga.Steps) {
			before := s.Saga.Steps[i]
			for _, prefix := range []string{"", "undo "} {
				if ids := s.Sent[prefix+before.Name]; ids != nil {
					sent[prefix+step.Name] = ids
				}
			}
			before.Name, before.After, before.Pivot = step.Name, step.After, step.Pivot
			declared[i] = before
		}
	}
	s.Saga.Version, s.Saga.Steps = version, declared
	doc["saga"], _ = json.Marshal(s.Saga)
	doc["sent"], _ = json.Marshal(sent)
	d.Data, _ = json.Marshal(doc)
	return d
}

// causeless gives every answer the cause that the saga it is about waits for: the first one that it may be for.
func causeless(sim *simulate.Simulation, name string, next broker.Handler) broker.Handler {
	collection := map[string]string{"trips": "journey", "cars": "car"}[name]
	if collection == "" {
		return next
	}
	return func(ctx context.Context, batch []ce.Event) []broker.Result {
		batch = slices.Clone(batch)
		for i, e := range batch {
			for _, d := range sim.Documents(name, collection) {
				var s stored
				if d.ID != e.Subject() || json.Unmarshal(d.Data, &s) != nil {
					continue
				}
				if cause := awaited(s, e.Type() == "com.example.desk.dropped.v1"); cause != "" {
					batch[i] = e.Clone()
					batch[i].SetExtension(event.CausationID, cause)
				}
			}
		}
		return next(ctx, batch)
	}
}

func awaited(s stored, undo bool) string {
	for _, step := range s.Saga.Steps {
		key, state := step.Name, saga.Doing
		if undo {
			key, state = "undo "+step.Name, saga.BeingUndone
		}
		if ids := s.Sent[key]; step.State == state && len(ids) > 0 && step.Name != "car" {
			return ids[len(ids)-1]
		}
	}
	return ""
}

// overdue sets the timers of every function for the second before.
func overdue(_ *simulate.Simulation, c *simulate.Function) {
	env(func(e *function.Env) {
		to := e.Publisher
		e.Publisher = publisher(func(ctx context.Context, es []ce.Event) error {
			es = slices.Clone(es)
			for i, e := range es {
				timer, err := event.ClockSchedule.Decode(e)
				if err != nil {
					continue
				}
				timer.Due = e.Time().Add(-time.Second)
				es[i] = e.Clone()
				es[i].DataEncoded, _ = json.Marshal(timer)
			}
			return to.Publish(ctx, es...)
		})
	})(c)
}

// Each promise about sagas is needed: without it a run ends in a violation.
func TestBrokenJourneys(t *testing.T) {
	const within = 200
	for name, b := range map[string]simulation.BrokenJourneys{
		"progress by index":                  {Change: byIndex},
		"an older build moves newer sagas":   {Change: meddling},
		"steps wait for no other":            {Change: hurrying},
		"answers without their cause":        {Handle: causeless},
		"a timer in the past":                {Change: overdue},
		"an undo that is stuck is not told":  {Patient: true},
		"other steps under the same version": {Unchanged: true},
	} {
		t.Run(name, func(t *testing.T) {
			sys := simulation.Journeys(b)
			if name == "an older build moves newer sagas" { // which meet only while both builds run
				sys.Faults = []simulate.Kind{simulate.Deploy}
			}
			if search(t, simulate.Runner{System: sys, Seeds: within}, nil) == nil {
				t.Fatalf("%d seeds find no violation", within)
			}
		})
	}
}
