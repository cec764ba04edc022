package store

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Unit is whatever carries a transaction: a *Tx, or a larger unit of work around one.
type Unit interface{ StoreTx() *Tx }

// Tx collects what a unit of work reads and writes. Nothing reaches the database before
// Commit, which demands that every document that was read by its key is still what
// was read. What a query returned is not checked again: a decision that must hold over
// a query belongs on a document that both sides write.
//
// A Tx is for one goroutine and is of no use after Commit.
type Tx struct {
	driver  Driver
	parent  *Tx
	touched []touch        // first touch first, so that a batch is the same every time
	index   map[Key]*entry // of touched, once that is long
	careful bool           // an attempt before lost a race: look before assuming that a document is new
	watched *watched       // nil: none
}

// watched is a document that is read beside others.
type watched struct {
	doc    Document
	latest bool // nothing was read after it
}

// touch is a document that the unit has read or written.
type touch struct {
	Key
	*entry
}

// short is how many documents are found faster by looking at each than by an index.
const short = 12

type entry struct {
	base    int64 // the version in the database
	version int64 // base, and one more for each write in this unit
	data    json.RawMessage
	dirty   bool
}

// Begin starts a transaction.
func Begin(d Driver) *Tx { return &Tx{driver: d} }

// StoreTx makes a Tx its own Unit.
func (tx *Tx) StoreTx() *Tx { return tx }

// Nest starts a transaction inside tx: it sees what tx has written, and what it writes is
// part of tx after Merge and forgotten otherwise.
func (tx *Tx) Nest() *Tx {
	return &Tx{driver: tx.driver, parent: tx, careful: tx.careful, watched: tx.watched}
}

// Merge hands what a nested transaction read and wrote to the one around it.
func (tx *Tx) Merge() {
	for _, t := range tx.touched {
		tx.parent.put(t.Key, t.entry)
	}
}

// find is what this level holds of a document; nil when it holds nothing.
func (tx *Tx) find(k Key) *entry {
	if tx.index != nil {
		return tx.index[k]
	}
	for i := range tx.touched {
		if t := &tx.touched[i]; t.ID == k.ID && t.Collection == k.Collection {
			return t.entry
		}
	}
	return nil
}

func (tx *Tx) put(k Key, e *entry) {
	if known := tx.find(k); known != nil {
		*known = *e
		return
	}
	tx.touched = append(tx.touched, touch{k, e})
	switch {
	case tx.index != nil:
		tx.index[k] = e
	case len(tx.touched) > short:
		tx.index = make(map[Key]*entry, 4*short)
		for _, t := range tx.touched {
			tx.index[t.Key] = t.entry
		}
	}
}

// known finds what this unit already holds of a document, copied into this level.
func (tx *Tx) known(k Key) (*entry, bool) {
	if e := tx.find(k); e != nil {
		return e, true
	}
	if tx.parent == nil {
		return nil, false
	}
	e, ok := tx.parent.known(k)
	if !ok {
		return nil, false
	}
	mine := *e
	tx.put(k, &mine)
	return &mine, true
}

// Load makes the unit hold the documents, in one call of the driver for all that it does not hold yet.
func (tx *Tx) Load(ctx context.Context, keys ...Key) error {
	var missing []Key
	asked := make(map[Key]bool, len(keys))
	for _, k := range keys {
		if _, ok := tx.known(k); !ok && !asked[k] {
			asked[k] = true
			missing = append(missing, k)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	w := tx.watched
	if w != nil {
		missing = append(missing, w.doc.Key)
	}
	docs, err := tx.driver.Get(ctx, missing...)
	if err != nil {
		return err
	}
	if w != nil {
		last := len(docs) - 1
		w.doc, w.latest, docs = docs[last], true, docs[:last]
	}
	tx.Assume(docs...)
	return nil
}

// Watch makes every call of the driver that reads documents by key read this one beside them, for a unit that only reads:
// Commit does not demand that the document stays. It is the unit's one watched document.
func (tx *Tx) Watch(k Key) { tx.watched = &watched{doc: Document{Key: k}} }

// Watched returns the watched document, as it is at the time of the unit's last read or later: what the unit has read was
// there before any later change of it. It calls the driver only if the last read was a query, or nothing was read. A
// missing document has Version 0.
func (tx *Tx) Watched(ctx context.Context) (Document, error) {
	w := tx.watched
	if !w.latest {
		docs, err := tx.driver.Get(ctx, w.doc.Key)
		if err != nil {
			return Document{}, err
		}
		w.doc, w.latest = docs[0], true
	}
	return w.doc, nil
}

// Get reads one document. A missing one has Version 0. The data must not be changed.
func (tx *Tx) Get(ctx context.Context, k Key) (Document, error) {
	if err := tx.Load(ctx, k); err != nil {
		return Document{}, err
	}
	e, _ := tx.known(k)
	return e.document(k), nil
}

func (e *entry) document(k Key) Document {
	if e.data == nil {
		return Document{Key: k}
	}
	return Document{Key: k, Version: e.version, Data: e.data}
}

// Set writes a document, and returns its new version.
func (tx *Tx) Set(ctx context.Context, k Key, data json.RawMessage) (int64, error) {
	if err := tx.Load(ctx, k); err != nil {
		return 0, err
	}
	e, _ := tx.known(k)
	e.version, e.data, e.dirty = e.version+1, data, true
	return e.version, nil
}

// Create writes a document that must not exist yet. The first attempt of a unit takes the
// caller's word for it and lets Commit find out, which saves a read for ids that are new by construction.
func (tx *Tx) Create(ctx context.Context, k Key, data json.RawMessage) error {
	e, known := tx.known(k)
	if !known && tx.careful {
		if err := tx.Load(ctx, k); err != nil {
			return err
		}
		e, known = tx.known(k)
	}
	if !known {
		e = &entry{}
		tx.put(k, e)
	}
	if e.data != nil {
		return fault.New(fault.Conflict, "%s %s exists already", k.Collection, k.ID)
	}
	e.version, e.data, e.dirty = e.version+1, data, true
	return nil
}

// Delete removes a document; removing one that is not there is fine.
func (tx *Tx) Delete(ctx context.Context, k Key) error {
	if err := tx.Load(ctx, k); err != nil {
		return err
	}
	e, _ := tx.known(k)
	if e.data != nil {
		e.data, e.dirty = nil, true
	}
	return nil
}

// Discard removes a document without looking: for keys that nobody else writes.
func (tx *Tx) Discard(k Key) {
	tx.put(k, &entry{base: blind, dirty: true})
}

// blind marks an entry whose version in the database nobody read.
const blind = -1

// Written reports the version that the unit gives to a document it writes, in whichever
// collection has one with this id; 0 when it writes none.
func (tx *Tx) Written(id string) int64 {
	var version int64
	for _, t := range tx.touched {
		if t.ID == id && t.dirty && t.data != nil {
			version = max(version, t.version)
		}
	}
	if version == 0 && tx.parent != nil {
		return tx.parent.Written(id)
	}
	return version
}

// Changed calls f for each document the unit writes, as it will be; one that is removed has Version 0.
func (tx *Tx) Changed(f func(Document)) {
	for _, t := range tx.touched {
		if t.dirty {
			f(t.document(t.Key))
		}
	}
}

// Assume makes the unit hold documents that were just read, or committed, elsewhere.
func (tx *Tx) Assume(docs ...Document) {
	for _, d := range docs {
		tx.put(d.Key, &entry{base: d.Version, version: d.Version, data: d.Data})
	}
}

// Query returns documents as they would be if the unit had been committed.
func (tx *Tx) Query(ctx context.Context, q Query) ([]Document, bool, error) {
	pending := tx.pending(q.Collection)
	ask := q
	ask.Limit = min(q.Limit+len(pending), MaxLimit)
	docs, more, err := tx.driver.Query(ctx, ask)
	if tx.watched != nil {
		tx.watched.latest = false
	}
	if err != nil || len(pending) == 0 {
		return docs, more, err
	}
	docs = slices.DeleteFunc(docs, func(d Document) bool { _, ok := pending[d.ID]; return ok })
	var last *Position
	if more && len(docs) > 0 {
		p := PositionOf(docs[len(docs)-1], q.Order)
		last = &p
	}
	for id, e := range pending {
		d := e.document(Key{q.Collection, id})
		if e.data != nil && Match(d.Data, q.Where) && q.within(d, last) {
			docs = append(docs, d)
		}
	}
	slices.SortFunc(docs, func(a, b Document) int {
		return Compare(PositionOf(a, q.Order), PositionOf(b, q.Order), q.Order)
	})
	if len(docs) > q.Limit {
		return docs[:q.Limit], true, nil
	}
	return docs, more, nil
}

// within reports whether d belongs into a page that starts after q.After and ends with last.
func (q Query) within(d Document, last *Position) bool {
	p := PositionOf(d, q.Order)
	if q.After != nil && Compare(p, *q.After, q.Order) <= 0 {
		return false
	}
	return last == nil || Compare(p, *last, q.Order) < 0
}

// pending are the documents of a collection that the unit has written.
func (tx *Tx) pending(collection string) map[string]*entry {
	var found map[string]*entry
	if tx.parent != nil {
		found = tx.parent.pending(collection)
	}
	for _, t := range tx.touched {
		if t.Collection != collection || !t.dirty {
			continue
		}
		if found == nil {
			found = map[string]*entry{}
		}
		found[t.ID] = t.entry
	}
	return found
}

// Batch is what Commit sends to the driver.
func (tx *Tx) Batch() Batch {
	b := Batch{Preconditions: make([]Precondition, 0, len(tx.touched)), Mutations: make([]Mutation, 0, len(tx.touched))}
	for _, t := range tx.touched {
		if t.base != blind {
			b.Preconditions = append(b.Preconditions, Precondition{t.Key, t.base})
		}
		if t.dirty && (t.data != nil || t.base != 0) {
			b.Mutations = append(b.Mutations, Mutation{t.Key, t.version, t.data})
		}
	}
	return b
}

// Commit makes everything durable together, or answers fault.Conflict. A unit that
// wrote nothing has nothing to commit.
func (tx *Tx) Commit(ctx context.Context) error {
	b := tx.Batch()
	if len(b.Mutations) == 0 {
		return nil
	}
	return tx.driver.Commit(ctx, b)
}

// attempts is how often Update runs a unit that loses races before it gives up.
const attempts = 12

// Update runs fn in a transaction and commits it; when a race is lost, again, so fn must have no
// effect but through its tx. A driver whose RunTwice answers true makes it run fn once more before, so
// that an impure one shows in ordinary tests.
func Update(ctx context.Context, d Driver, fn func(context.Context, *Tx) error) error {
	if r, ok := d.(interface{ RunTwice() bool }); ok && r.RunTwice() {
		_ = fn(ctx, Begin(d)) // what a first, lost attempt would have done
	}
	for n := 1; ; n++ {
		tx := Begin(d)
		tx.careful = n > 1
		err := fn(ctx, tx)
		if err == nil {
			err = tx.Commit(ctx)
			if err == nil {
				return nil
			}
			if fault.Is(err, fault.Conflict) {
				err = lost{err}
			}
		}
		var race lost
		if !errors.As(err, &race) || n == attempts || ctx.Err() != nil {
			return err
		}
		if p, ok := d.(interface{ Pause(context.Context, int) }); ok {
			p.Pause(ctx, n)
		} else {
			pause(ctx, n)
		}
	}
}

// lost marks a conflict that the database found, which another attempt may not meet; one that
// a handler decided on would only be decided again.
type lost struct{ error }

func (l lost) Unwrap() error { return l.error }

func pause(ctx context.Context, n int) {
	wait := time.Duration(rand.Int64N(int64(n) * int64(time.Millisecond)))
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
}
