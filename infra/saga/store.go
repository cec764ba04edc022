package saga

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/journal"
	"github.com/ebb-dev/ebb/infra/store"
)

// Store is where the sagas of a declaration are stored: in Documents or InJournal.
type Store[S any] interface {
	open(f *function.Function, name string, entity bool) keeper[S]
}

// keeper stores the sagas of one declaration.
type keeper[S any] interface {
	key(id string) store.Key
	find(ctx context.Context, tx *function.Tx, id string) (S, bool, error)
	ended(document []byte) bool // without decoding all of it
	save(ctx context.Context, tx *function.Tx, id string, c Change[S]) error
	query(ctx context.Context, tx *function.Tx, find store.Find) (store.Page[S], error)
}

// outline is the part of a stored saga that tells whether it has ended.
type outline struct {
	Saga struct {
		Status Status `json:"status"`
	} `json:"saga"`
}

// Happening says what changed a saga.
type Happening string

const (
	Started   Happening = "started"
	Answered  Happening = "answered"  // an answer came that it waited for
	Expired   Happening = "expired"   // a deadline passed, or the timer was set again
	Cancelled Happening = "cancelled" // it was cancelled
	Operated  Happening = "operated"  // an operator retried, skipped or ended something
)

// Change is one change of a saga, for a journal.
type Change[S any] struct {
	What  Happening
	At    time.Time
	Event string // the type of the event that changed it; "": a request did
	By    string // the subject of the sender of the request
	State S      // after the change
	Ended bool   // the saga has ended with it
}

// byStatus is the index for operators.
func byStatus(prefix string) store.Index { return store.On(prefix+"saga.status", prefix+"id") }

// Documents stores each saga as a document. Options are those of the collection, such as indexes for Query. Name is the
// collection; "": that of the saga. The facts about a saga have the document's version as their sequence
// (store.Entity), unless it is a child, which has the id of its parent.
func Documents[S any](name string, options ...store.Option) Store[S] {
	return documents[S]{name, options}
}

type documents[S any] struct {
	name    string
	options []store.Option
}

func (d documents[S]) open(f *function.Function, name string, entity bool) keeper[S] {
	if d.name != "" {
		name = d.name
	}
	options := append(d.options, byStatus(""))
	if entity {
		options = append(options, store.Entity)
	}
	return documentKeeper[S]{function.Collection[S](f, name, options...)}
}

type documentKeeper[S any] struct{ docs *store.Collection[S] }

func (k documentKeeper[S]) key(id string) store.Key { return k.docs.Key(id) }

func (k documentKeeper[S]) find(ctx context.Context, tx *function.Tx, id string) (S, bool, error) {
	return k.docs.Find(ctx, tx, id)
}

func (k documentKeeper[S]) ended(document []byte) bool {
	var d outline
	return json.Unmarshal(document, &d) == nil && d.Saga.Status.Ended()
}

func (k documentKeeper[S]) save(ctx context.Context, tx *function.Tx, id string, c Change[S]) error {
	if c.What == Started {
		return k.docs.Create(ctx, tx, id, c.State)
	}
	return k.docs.Put(ctx, tx, id, c.State)
}

func (k documentKeeper[S]) query(ctx context.Context, tx *function.Tx, find store.Find) (store.Page[S], error) {
	return k.docs.Query(ctx, tx, find)
}

// InJournal stores each saga as an event-sourced aggregate of the journal with the name. entries returns what a change
// appends, and the fold must lead from that to the state of the change. Indexes for Query begin with "state.".
func InJournal[S, E any](
	name string, fold func(S, E) S, revision int, entries func(Change[S]) []E, indexes ...store.Index,
) Store[S] {
	return journaled[S, E]{name, fold, revision, entries, indexes}
}

type journaled[S, E any] struct {
	name     string
	fold     func(S, E) S
	revision int
	entries  func(Change[S]) []E
	indexes  []store.Index
}

func (j journaled[S, E]) open(f *function.Function, _ string, _ bool) keeper[S] {
	return journalKeeper[S, E]{j.entries, journal.New(f, j.name, j.fold, journal.Revision(j.revision),
		journal.Indexes(append(j.indexes, byStatus("state."))...))}
}

type journalKeeper[S, E any] struct {
	entries func(Change[S]) []E
	journal *journal.Journal[S, E]
}

func (k journalKeeper[S, E]) key(id string) store.Key { return k.journal.Key(id) }

func (k journalKeeper[S, E]) find(ctx context.Context, tx *function.Tx, id string) (S, bool, error) {
	return k.journal.Find(ctx, tx, id)
}

func (k journalKeeper[S, E]) ended(document []byte) bool {
	var d struct {
		State outline `json:"state"`
	}
	return json.Unmarshal(document, &d) == nil && d.State.Saga.Status.Ended()
}

func (k journalKeeper[S, E]) save(ctx context.Context, tx *function.Tx, id string, c Change[S]) (err error) {
	if c.What == Started {
		_, err = k.journal.Create(ctx, tx, id, k.entries(c)...)
	} else {
		_, err = k.journal.Append(ctx, tx, id, k.entries(c)...)
	}
	return err
}

func (k journalKeeper[S, E]) query(ctx context.Context, tx *function.Tx, find store.Find) (store.Page[S], error) {
	for i, w := range find.Where {
		find.Where[i].Field = prefixed(w.Field)
	}
	for i, o := range find.Order {
		find.Order[i].Field = prefixed(o.Field)
	}
	return k.journal.Query(ctx, tx, find)
}

// prefixed returns the path of a field of the state in the head of a journal.
func prefixed(field string) string { return "state." + strings.TrimPrefix(field, "state.") }
