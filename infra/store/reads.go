package store

import (
	"context"
	"slices"

	"github.com/ebb-dev/ebb/infra/fault"
)

// A transaction reads its documents one after the other, so that it may see one document before the commit of another
// transaction and one document after it: a state that never was. A commit finds that out, since it requires that every
// document is unchanged. A decision that commits nothing is checked here: a refusal, or that there is nothing to do.
// What was read in one call of the driver was true at one moment, and needs no check.

// reads is what a transaction has read besides touched.
type reads struct {
	moments  int            // calls of the driver, and creates that only the commit checks
	queries  []ranQuery     // in their order
	required []Precondition // the reads of nested transactions that were not merged; see MergeReads

	index   map[Key]*Document // of the first queries: the first version of each document that was returned
	indexed int               // how many
}

// ranQuery is a query with the documents that it returned.
type ranQuery struct {
	query Query
	docs  []Document
}

func (r *reads) note(q Query, docs []Document) {
	r.moments++
	r.queries = append(r.queries, ranQuery{q, slices.Clone(docs)})
}

// find returns a document as a query returned it first; nil when none did.
func (r *reads) find(k Key) *Document {
	for ; r.indexed < len(r.queries); r.indexed++ {
		docs := r.queries[r.indexed].docs
		if r.index == nil {
			r.index = make(map[Key]*Document, len(docs))
		}
		for i := range docs {
			if d := &docs[i]; r.index[d.Key] == nil {
				r.index[d.Key] = d
			}
		}
	}
	return r.index[k]
}

func (r *reads) add(other reads) {
	r.moments += other.moments
	r.queries = append(r.queries, other.queries...)
	r.required = append(r.required, other.required...)
}

// MergeReads adds the reads of a nested transaction to the outer one, whose commit then requires that they are
// unchanged, and drops its writes: for a decision against writing that must be made again when the commit fails. A
// query counts as a read of the documents that it returned.
func (tx *Tx) MergeReads() {
	for _, t := range tx.touched {
		if t.base != blind {
			tx.reads.required = append(tx.reads.required, Precondition{t.Key, t.base})
		}
	}
	for _, ran := range tx.reads.queries {
		for _, d := range ran.docs {
			if tx.find(d.Key) == nil { // otherwise it is read by its key
				tx.reads.required = append(tx.reads.required, Precondition{d.Key, d.Version})
			}
		}
	}
	tx.parent.reads.add(tx.reads)
}

// torn returns a document of which the transaction requires two versions.
func (tx *Tx) torn() (k Key, torn bool) {
	versions := map[Key]int64{}
	for _, p := range tx.reads.required {
		version := p.Version
		if e := tx.find(p.Key); e != nil && e.base != blind {
			version = e.base
		} else if known, twice := versions[p.Key]; twice {
			version = known
		}
		if version != p.Version {
			return p.Key, true
		}
		versions[p.Key] = version
	}
	return Key{}, false
}

// Confirm returns err, the decision of a handler that commits nothing, if it stands: when it is no refusal of what was
// asked for, or when everything that the transaction has read was true at one moment. Otherwise it returns a
// fault.Conflict that is Raced, and the handler must be run again. It calls the driver only when a refusal was decided
// on reads of several moments, and returns the error of that call.
func (tx *Tx) Confirm(ctx context.Context, err error) error {
	if err == nil || !refuses(err) {
		return err
	}
	if checked := tx.check(ctx); checked != nil {
		if fault.Is(checked, fault.Conflict) {
			return raced{checked}
		}
		return checked
	}
	return err
}

// refuses reports whether an error is about what was asked for and the data, and not about a failure.
func refuses(err error) bool {
	if Raced(err) {
		return false
	}
	switch fault.KindOf(err) {
	case fault.Invalid, fault.Unauthenticated, fault.Denied, fault.NotFound, fault.NotYet, fault.Conflict, fault.TooLarge:
		return true
	}
	return false
}

// check returns fault.Conflict unless everything that the transaction has read was true at one moment. No version comes
// again, so a document that has the version that was read was unchanged in between: the queries that are run again here
// and all documents have a moment in common.
func (tx *Tx) check(ctx context.Context) error {
	var keys []Key
	versions, moments := map[Key]int64{}, 0
	for level := tx; level != nil; level = level.parent {
		moments += level.reads.moments
	}
	if moments < 2 {
		return nil
	}
	for level := tx; level != nil; level = level.parent {
		if k, torn := level.torn(); torn {
			return changed(k)
		}
		for _, ran := range level.reads.queries {
			if err := ran.check(ctx, tx.driver); err != nil {
				return err
			}
		}
		for _, p := range level.Batch().Preconditions {
			if _, known := versions[p.Key]; !known {
				keys, versions[p.Key] = append(keys, p.Key), p.Version
			}
		}
	}
	if len(keys) == 0 {
		return nil
	}
	docs, err := tx.driver.Get(ctx, keys...)
	if err != nil {
		return err
	}
	for _, d := range docs {
		if d.Version != versions[d.Key] {
			return changed(d.Key)
		}
	}
	return nil
}

func (r ranQuery) check(ctx context.Context, d Driver) error {
	docs, _, err := d.Query(ctx, r.query)
	if err != nil {
		return err
	}
	same := func(a, b Document) bool { return a.Key == b.Key && a.Version == b.Version }
	if !slices.EqualFunc(docs, r.docs, same) {
		return fault.New(fault.Conflict, "the documents of %s have changed in the meantime", r.query.Collection)
	}
	return nil
}

func changed(k Key) error {
	return fault.New(fault.Conflict, "%s %q has changed in the meantime", k.Collection, k.ID)
}
