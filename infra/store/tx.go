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

// Transactor has a transaction: a *Tx itself, or a unit of work that contains one.
type Transactor interface{ StoreTx() *Tx }

// Tx collects the reads and writes of a unit of work. Nothing is written to the database before Commit, which requires
// that every document is unchanged that was read by its key. A document that a query returned is read by its key when
// it is read, written or deleted afterwards: as the query returned it, without another call of the driver. The other
// documents of a query are not checked again, nor whether there are new ones: when a decision depends on them, both
// sides must also write a common document.
//
// A Tx may be used by one goroutine only, and not after Commit.
type Tx struct {
	driver  Driver
	parent  *Tx
	touched []touch        // in the order of first use, so that the batch is deterministic
	index   map[Key]*entry // of touched, when that is longer than short
	reads   reads
	careful bool     // a conflict ended the attempt before: Create reads the document first
	watched *watched // nil: none
	attempt *attempt
}

// watched is documents that every read by key also reads.
type watched struct {
	docs   []Document
	latest bool // no read came after them
}

func (w *watched) keys() []Key {
	keys := make([]Key, len(w.docs))
	for i, d := range w.docs {
		keys[i] = d.Key
	}
	return keys
}

// touch is a document that the transaction has read or written.
type touch struct {
	Key
	*entry
}

// short is the number of documents up to which a linear search is faster than an index.
const short = 12

type entry struct {
	base    int64 // the version in the database; 0: it is missing
	version int64 // base, or Last of a missing document, and one more for each write in this transaction
	data    json.RawMessage
	dirty   bool
}

// Begin starts a transaction.
func Begin(d Driver) *Tx { return &Tx{driver: d, attempt: &attempt{}} }

// StoreTx returns tx, so that a Tx is a Transactor.
func (tx *Tx) StoreTx() *Tx { return tx }

// Nest starts a transaction inside tx. It reads the writes of tx; its own writes become a part of tx with Merge and are
// dropped otherwise.
func (tx *Tx) Nest() *Tx {
	return &Tx{driver: tx.driver, parent: tx, careful: tx.careful, watched: tx.watched, attempt: tx.attempt}
}

// Merge adds the reads and writes of a nested transaction to the outer one.
func (tx *Tx) Merge() {
	for _, t := range tx.touched {
		tx.parent.put(t.Key, t.entry)
	}
	tx.parent.reads.add(tx.reads)
}

// find returns the entry of a document at this level of nesting, or nil.
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

// known returns the entry of a document at this level. A document that an outer level has, or that a query returned, is
// copied to this level.
func (tx *Tx) known(k Key) (*entry, bool) {
	for level := tx; level != nil; level = level.parent {
		e := level.find(k)
		if e == nil {
			continue
		}
		if level != tx {
			mine := *e
			e = &mine
			tx.put(k, e)
		}
		return e, true
	}
	for level := tx; level != nil; level = level.parent {
		if d := level.reads.find(k); d != nil {
			e := entryOf(*d)
			tx.put(k, e)
			return e, true
		}
	}
	return nil, false
}

// Load reads documents in one call of the driver, except those that the transaction has already.
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
	w, asks := tx.watched, len(missing)
	if w != nil {
		missing = append(missing, w.keys()...)
	}
	docs, err := tx.driver.Get(ctx, missing...)
	if err != nil {
		return err
	}
	tx.reads.moments++
	if w != nil {
		w.docs, w.latest, docs = docs[asks:], true, docs[:asks]
	}
	tx.Assume(docs...)
	return nil
}

// Watch makes each call of the driver that reads documents by key also read these. It is for a transaction that only
// reads: Commit does not require that the documents are unchanged. It is called once at most.
func (tx *Tx) Watch(keys ...Key) {
	w := &watched{docs: make([]Document, len(keys))}
	for i, k := range keys {
		w.docs[i].Key = k
	}
	tx.watched = w
}

// Watched returns the watched documents as of the transaction's last read or later, so that every document the
// transaction has read was read before any later change of them. It calls the driver only when the last read was a
// query, or there was none. A missing document has Version 0.
func (tx *Tx) Watched(ctx context.Context) ([]Document, error) {
	w := tx.watched
	if !w.latest {
		docs, err := tx.driver.Get(ctx, w.keys()...)
		if err != nil {
			return nil, err
		}
		w.docs, w.latest = docs, true
	}
	return w.docs, nil
}

// Get returns one document. A missing one has Version 0. The caller must not change the data.
func (tx *Tx) Get(ctx context.Context, k Key) (Document, error) {
	if err := tx.Load(ctx, k); err != nil {
		return Document{}, err
	}
	e, _ := tx.known(k)
	return e.document(k), nil
}

func entryOf(d Document) *entry {
	return &entry{base: d.Version, version: max(d.Version, d.Last), data: d.Data}
}

func (e *entry) document(k Key) Document {
	if e.data == nil {
		return Document{Key: k}
	}
	return Document{Key: k, Version: e.version, Data: e.data}
}

// Set writes a document, and returns its new version.
func (tx *Tx) Set(ctx context.Context, k Key, data json.RawMessage) (int64, error) {
	return tx.set(ctx, k, data, 1)
}

// set does as Set does. A document that is missing gets at least the version first.
func (tx *Tx) set(ctx context.Context, k Key, data json.RawMessage, first int64) (int64, error) {
	if err := tx.Load(ctx, k); err != nil {
		return 0, err
	}
	e, _ := tx.known(k)
	e.write(data, first)
	return e.version, nil
}

func (e *entry) write(data json.RawMessage, first int64) {
	next := e.version + 1
	if e.data == nil {
		next = max(next, first)
	}
	e.version, e.data, e.dirty = next, data, true
}

// Create writes a document that must not exist yet. In the first attempt of a unit of work only Commit checks that,
// which saves a read for ids that are new by construction.
func (tx *Tx) Create(ctx context.Context, k Key, data json.RawMessage) error {
	return tx.create(ctx, k, data, 1)
}

// create does as Create does. The document gets at least the version first.
func (tx *Tx) create(ctx context.Context, k Key, data json.RawMessage, first int64) error {
	e, known := tx.known(k)
	if !known && tx.careful {
		if err := tx.Load(ctx, k); err != nil {
			return err
		}
		e, known = tx.known(k)
	}
	if !known {
		e = &entry{version: tx.floor(k.Collection)}
		tx.put(k, e)
		tx.reads.moments++
	}
	if e.data != nil {
		return fault.New(fault.Conflict, "%s %s exists already", k.Collection, k.ID)
	}
	e.write(data, first)
	return nil
}

// Floors is implemented by drivers that know without reading that Last of every missing document of a collection has
// reached a number, because marks were removed. A Create that reads nothing then makes a version above it. The number
// may be too small: then the commit is refused, and the next attempt reads Last.
type Floors interface{ Floor(collection string) int64 }

func (tx *Tx) floor(collection string) int64 {
	if f, ok := tx.driver.(Floors); ok {
		return f.Floor(collection)
	}
	return 0
}

// Delete removes a document. Removing a missing one is no error.
func (tx *Tx) Delete(ctx context.Context, k Key) error {
	if err := tx.Load(ctx, k); err != nil {
		return err
	}
	e, _ := tx.known(k)
	if e.data != nil {
		e.version, e.data, e.dirty = e.version+1, nil, true
	}
	return nil
}

// Discard removes a document without reading it or checking its version. Use it only for keys that no other unit
// writes.
func (tx *Tx) Discard(k Key) {
	tx.put(k, &entry{base: blind, dirty: true})
}

// blind is the base of an entry whose version in the database was not read.
const blind = -1

// Written returns the version that the transaction gives to a document that it writes or deletes; 0: it does neither.
func (tx *Tx) Written(k Key) int64 {
	for level := tx; level != nil; level = level.parent {
		if e := level.find(k); e != nil && e.dirty && (e.data != nil || e.base > 0) {
			return e.version
		}
	}
	return 0
}

// Changed calls f with the new state of each written document; a removed one has Version 0.
func (tx *Tx) Changed(f func(Document)) {
	for _, t := range tx.touched {
		if t.dirty {
			f(t.document(t.Key))
		}
	}
}

// Assume adds documents that were just read or committed elsewhere to the transaction's reads.
func (tx *Tx) Assume(docs ...Document) {
	for _, d := range docs {
		tx.put(d.Key, entryOf(d))
	}
}

// Presume adds documents as they probably are to the reads of the first attempt of a unit of work, without reading
// them; of a missing one only the key is needed. Commit requires that they are so. When they are not, the unit runs
// again, and reads them. Documents that the transaction has already are left out. In a later attempt Presume adds none,
// and returns false.
func (tx *Tx) Presume(docs ...Document) bool {
	if tx.careful {
		return false
	}
	for _, d := range docs {
		if _, known := tx.known(d.Key); known {
			continue
		}
		if d.Version == 0 {
			d.Last = max(d.Last, tx.floor(d.Collection))
		}
		tx.put(d.Key, entryOf(d))
	}
	tx.reads.moments += 2 // what was presumed may never have been true
	return true
}

// Query returns documents as they would be after the commit of the transaction. So a transaction that deletes what a
// query returned, and repeats the query until it returns nothing, has deleted all.
func (tx *Tx) Query(ctx context.Context, q Query) ([]Document, bool, error) {
	pending := tx.pending(q.Collection)
	ask := q
	ask.Limit = min(q.Limit+len(pending), MaxLimit)
	var docs []Document
	var last *Position // of what the driver has returned; nil: nothing is beyond it
	for more := true; more && len(docs) < q.Limit; {
		page, further, err := tx.ask(ctx, ask)
		if err != nil {
			return nil, false, err
		}
		if more, last = further && len(page) > 0, nil; more {
			p := PositionOf(page[len(page)-1], q.Order)
			last, ask.After = &p, &p
		}
		if len(pending) > 0 {
			page = slices.DeleteFunc(page, func(d Document) bool { _, ok := pending[d.ID]; return ok })
		}
		if docs == nil {
			docs = page
		} else {
			docs = append(docs, page...)
		}
	}
	if len(pending) == 0 {
		return docs, last != nil, nil
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
	return docs, last != nil, nil
}

// ask runs a query of the driver.
func (tx *Tx) ask(ctx context.Context, q Query) (docs []Document, more bool, err error) {
	docs, more, err = tx.driver.Query(ctx, q)
	if tx.watched != nil {
		tx.watched.latest = false
	}
	if err == nil {
		tx.reads.note(q, docs)
	}
	return docs, more, err
}

// within reports whether d belongs to a page that starts after q.After and ends with last.
func (q Query) within(d Document, last *Position) bool {
	p := PositionOf(d, q.Order)
	if q.After != nil && Compare(p, *q.After, q.Order) <= 0 {
		return false
	}
	return last == nil || Compare(p, *last, q.Order) < 0
}

// pending returns the documents of a collection that the transaction has written.
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

// Batch returns the batch that Commit sends to the driver.
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
	for _, p := range tx.reads.required {
		if tx.find(p.Key) == nil {
			b.Preconditions = append(b.Preconditions, p)
		}
	}
	return b
}

// Commit applies all writes atomically, or returns fault.Conflict. Of a transaction without writes it only checks that
// what it has read was true at one moment.
func (tx *Tx) Commit(ctx context.Context) error {
	if k, torn := tx.torn(); torn {
		return changed(k)
	}
	b := tx.Batch()
	if len(b.Mutations) == 0 {
		return tx.check(ctx)
	}
	return tx.driver.Commit(ctx, b)
}

// How often and how long Update runs a unit of work that ends with conflicts: at least attempts times, and for as long
// as patience, or a quarter of the time until the deadline if that is shorter.
const (
	attempts = 12
	patience = 4 * time.Second
)

// Update runs fn in a transaction and commits it. After a conflict it runs fn again, at least 11 more times and for
// some seconds, so fn must have no effect but through its tx. It does the same when fn refuses, and what fn has read
// was not true at one moment; see Tx.Confirm. A unit that has asked for a Portion is run again with a smaller one when
// the database refuses its commit as too large. With a driver whose RunTwice returns true, fn is run once more before
// that, so that tests show an fn with other effects.
func Update(ctx context.Context, d Driver, fn func(context.Context, *Tx) error) error {
	if r, ok := d.(interface{ RunTwice() bool }); ok && r.RunTwice() {
		_ = fn(ctx, Begin(d)) // as if a first attempt had ended with a conflict
	}
	halvings := 0
	start := time.Now()
	until := start.Add(patience)
	if deadline, ok := ctx.Deadline(); ok && deadline.Sub(start)/4 < patience {
		until = start.Add(deadline.Sub(start) / 4)
	}
	pauser, simulated := d.(interface{ Pause(context.Context, int) })
	for n := 1; ; n++ {
		begin := time.Now()
		tx := Begin(d)
		tx.careful, tx.attempt.halvings = n > 1, halvings
		err := fn(ctx, tx)
		if err == nil {
			err = tx.Commit(ctx)
			if err == nil {
				return nil
			}
			if fault.Is(err, fault.TooLarge) && tx.attempt.portion > 1 && ctx.Err() == nil {
				halvings++
				n--
				continue
			}
			if fault.Is(err, fault.Conflict) {
				err = raced{err}
			}
		} else {
			err = tx.Confirm(ctx, err)
		}
		if !Raced(err) || ctx.Err() != nil || n >= attempts && (simulated || time.Now().After(until)) {
			return err
		}
		if simulated {
			pauser.Pause(ctx, n)
		} else {
			pause(ctx, n, time.Since(begin))
		}
	}
}

// raced is a conflict that the database found. Another attempt may succeed, unlike after a conflict that fn itself
// returned.
type raced struct{ error }

func (r raced) Unwrap() error { return r.error }

// Raced reports whether an error is a conflict after which another attempt may succeed.
func Raced(err error) bool { return errors.As(err, new(raced)) }

// maxPause is the longest wait before another attempt.
const maxPause = 250 * time.Millisecond

// pause waits a random time before attempt n+1. It doubles with each attempt, from how long the last one took: where
// many instances write one document, each gets its turn.
func pause(ctx context.Context, n int, took time.Duration) {
	longest := min(max(took, time.Millisecond)<<min(n-1, 8), maxPause)
	select {
	case <-ctx.Done():
	case <-time.After(rand.N(longest)):
	}
}
