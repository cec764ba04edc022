package simulate

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/memory"
)

// The kit's own collections, and how long it keeps what is in them; an hour more, because an inbox counts in hours, and one
// for clocks that were wrong.
const (
	inboxName  = "_inbox"
	outboxName = "_outbox"
	keysName   = "_idempotency"

	inboxKept = 72*time.Hour + 2*time.Hour
	keysKept  = 24*time.Hour + 2*time.Hour
)

// all reads a whole collection.
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

func (w *World) checkDead() {
	for _, d := range w.dead {
		w.Violated("a dead letter: %s", d)
	}
	for _, id := range slices.Sorted(maps.Keys(w.poisoned)) {
		if !w.poisoned[id] {
			w.Violated("an event that nobody can take became no dead letter: %s", id)
		}
	}
}

func (w *World) isPoison(e ce.Event) bool {
	_, poisonous := w.poisoned[e.ID()]
	return poisonous
}

// checkOutbox stops every function in good order and sees that its outbox is empty.
func (w *World) checkOutbox() {
	w.closing = true
	w.run(func() bool { return w.idle() })
	for _, s := range w.slots {
		for _, i := range slices.Clone(s.all) {
			if i.state == up && i.calls == 0 {
				i.state = leaving
				i.stopNow()
			}
		}
	}
	w.run(func() bool { return w.running == 0 })
	for _, s := range w.slots {
		if left := w.Documents(s.name, outboxName); len(left) > 0 {
			w.Violated("the outbox of %s has %d entries left", s.name, len(left))
		}
	}
}

// checkAge lets days pass, and sees that inboxes and kept answers are forgotten.
func (w *World) checkAge() {
	w.now += inboxKept + time.Hour
	w.Note("days pass")
	rounds := 2
	for _, s := range w.slots {
		rounds = max(rounds, 2+len(w.Documents(s.name, inboxName))/200)
	}
	for n := range rounds {
		w.publish(sweep(n, w.Now())) // it wakes everybody, as the clock does now and then
		w.runFor(20 * time.Second)
	}
	w.Rest(w.sys.Settle)
	for _, s := range w.slots {
		if s.trigger == nil {
			continue
		}
		horizon := w.Now().Add(-inboxKept).Unix() / 3600
		for _, d := range w.Documents(s.name, inboxName) {
			if hour, err := strconv.ParseInt(d.ID[:min(8, len(d.ID))], 16, 64); err == nil && hour < horizon {
				w.Violated("the inbox of %s still has an entry that is older than three days: %s", s.name, d.ID)
				break
			}
		}
		horizon = w.Now().Add(-keysKept).Unix()
		for _, d := range w.Documents(s.name, keysName) {
			if at, err := strconv.ParseInt(field(d.Data, `"at":`), 10, 64); err == nil && at < horizon {
				w.Violated("%s still keeps an answer that is older than a day", s.name)
				break
			}
		}
	}
}

func sweep(n int, at time.Time) ce.Event {
	e := ce.New()
	e.SetID(fmt.Sprint("sweep-", n))
	e.SetSource("/simulation")
	e.SetType(event.ClockSwept.Name())
	e.SetTime(at)
	_ = e.SetData(ce.ApplicationJSON, event.SweptClock{At: at})
	return e
}

// field is the number after a mark in JSON.
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

// checkProjections builds what the scenario names anew from the events, and compares.
func (w *World) checkProjections() {
	if len(w.scenario.Projections) == 0 {
		return
	}
	log := w.published
	if w.scenario.Archive != nil {
		log = w.scenario.Archive(w)
	}
	for _, p := range w.scenario.Projections {
		if err := w.checkProjection(p, log); err != nil {
			w.Violated("%s cannot be built anew: %v", p.Function, err)
		}
	}
}

const replayed = "019b0000-0000-7000-8000-000000000000"

func (w *World) checkProjection(p Projection, log []ce.Event) error {
	s := w.byName[p.Function]
	if s == nil {
		return fmt.Errorf("there is no such function")
	}
	ctx := context.Background()
	open := memory.Opener()
	env := s.capability.Env
	env.Store, env.Publisher, env.Now, env.Logger = open, nowhere{}, w.Now, quiet
	made, err := s.capability.version(s.version)(env)
	if err != nil {
		return err
	}
	f := made.Instance()
	if err := f.Start(ctx); err != nil {
		return err
	}
	var batch []ce.Event
	for _, e := range log {
		if slices.Contains(p.Types, e.Type()) && !w.isPoison(e) && text(e, event.ReplayTo) == "" {
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
		w.compare(p, c, seen(p, all(s.schema, w.opener, p.Function, c), true), seen(p, all(s.schema, open, p.Function, c), false))
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
		if ok {
			found[name] = data
		}
	}
	return found
}

func (w *World) compare(p Projection, collection string, live, anew map[string]string) {
	names := maps.Clone(live)
	maps.Copy(names, anew)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if live[name] != anew[name] {
			w.Violated("%s of %s is not what the events say: %s is %q, built anew %q", collection, p.Function, name, live[name], anew[name])
			return
		}
	}
}

// nowhere takes events and forgets them.
type nowhere struct{}

func (nowhere) Publish(context.Context, ...ce.Event) error { return nil }
