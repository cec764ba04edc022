// Package store is the port to a function's own database: documents in collections, one database per function.
//
// A function declares its collections and uses them in its handlers:
//
//	products := function.Collection[Product](f, "products", store.On("price"))
//
//	p, err := products.Get(ctx, tx, id) // fault.NotFound if it is missing
//	err = products.Put(ctx, tx, id, Product{Name: "tea", Price: 420})
//	page, err := products.Query(ctx, tx, store.Find{
//		Where: []store.Filter{{Field: "price", Op: store.LessOrEqual, Value: 500}},
//		Order: []store.Order{{Field: "price"}}, Limit: 20,
//	})
//
// A driver implements Get, Query and Commit. Types, transactions and retries are implemented once, by Tx and
// Collection. Every driver passes the suite in storetest.
package store

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Key names one document.
type Key struct {
	Collection string
	ID         string
}

// Document is one stored document. Version 0 means that the document is missing. Each write of an id makes a larger
// version, from 1 on, also when the document was deleted in between: no version of an id is used twice, except in a
// collection that is SingleUse.
type Document struct {
	Key
	Version int64
	Data    json.RawMessage // a JSON object
	Last    int64           // of a missing document: the next write of the id makes a larger version than this
}

// Driver is one database. All methods may be called concurrently. A method called after Close returns
// fault.Unavailable. A cancelled context ends a call early; an interrupted Commit may or may not have been applied. A
// driver translates vendor errors to faults.
type Driver interface {
	// Get returns one document per key, in the order of the keys. A missing one has Version 0, no Data and its Last. The
	// caller may keep and change the result. The documents are read from one consistent state.
	Get(ctx context.Context, keys ...Key) ([]Document, error)

	// Query returns the documents of one collection that satisfy every filter, in order, at most Limit of them, starting
	// after After. More reports whether further ones follow.
	Query(ctx context.Context, q Query) (docs []Document, more bool, err error)

	// Commit checks every precondition and applies every mutation. When a precondition does not hold it applies none and
	// returns fault.Conflict. When it returns nil, the batch is as durable as the driver's documentation promises. A key
	// appears at most once in each list.
	//
	// A deletion makes Last of the document the version that was stored, or that of the mutation if it is larger. A
	// batch that requires that a document is missing and writes it with a version that is not above its Last is
	// fault.Conflict: a document was created and deleted since the writer has looked.
	//
	// For that a driver keeps a mark of each deleted document, unless the collection is SingleUse, for MarkRetention or
	// longer. When it removes marks, it raises Last of all missing documents of the collection to that of the marks. So
	// the number of marks is limited, and no version comes again.
	Commit(ctx context.Context, b Batch) error

	// Close waits for running calls and releases all resources. Closing twice is allowed.
	Close() error
}

// MarkRetention is how long a driver keeps the mark of a deleted document at least. A unit of work is shorter by far:
// none that has read the document is still running when its mark is removed.
const MarkRetention = 30 * 24 * time.Hour

// Batch is one atomic change.
type Batch struct {
	Preconditions []Precondition
	Mutations     []Mutation
}

// Precondition requires that the document has this version; 0: that it is missing.
type Precondition struct {
	Key
	Version int64
}

// Mutation writes one document with a version, or deletes it when Data is nil. The writer sets the version: the version
// that it read, or Last when there was none, and one more for each change since, a deletion included.
type Mutation struct {
	Key
	Version int64
	Data    json.RawMessage
}

// Document returns the document that the mutation writes.
func (m Mutation) Document() Document { return Document{Key: m.Key, Version: m.Version, Data: m.Data} }

// Op compares a field with a value.
type Op string

// The comparisons that every driver implements. A field is compared only with values of its own kind: a string is never
// less than a number.
const (
	Equal          Op = "=="
	Less           Op = "<"
	LessOrEqual    Op = "<="
	Greater        Op = ">"
	GreaterOrEqual Op = ">="
)

// Filter selects the documents whose field compares so with the value. Field is a
// path into the document with dots ("state.customer_id"). Value is a string, an
// int64, a float64 or a bool. A document without the field does not satisfy it.
type Filter struct {
	Field string
	Op    Op
	Value any
}

// Order sorts by one field. Documents without the field come first.
type Order struct {
	Field string
	Desc  bool
}

// Query selects documents of one collection. Ties, and queries without Order, are ordered by document id, in the
// direction of the last Order. A declared index of the collection must cover it: equality fields first, then the order
// fields; see Index.
type Query struct {
	Collection string
	Where      []Filter
	Order      []Order
	Limit      int // 1 to MaxLimit
	After      *Position
}

// MaxLimit is the most documents that one query returns.
const MaxLimit = 1000

// Position is a place in a query's order: the values of the order fields, and the id, of the last document that was
// read. A value is nil, a string, a float64 or a bool.
type Position struct {
	Values []any
	ID     string
}

// Index declares that queries filter or order by these fields, in this sequence: first those that are compared with
// Equal, then those that the query orders by or compares otherwise.
type Index struct {
	Fields []string
}

// On returns an index over fields.
func On(fields ...string) Index { return Index{Fields: fields} }

// Spec declares one collection.
type Spec struct {
	Name    string
	Indexes []Index
	Large   bool    `json:",omitempty"` // see Large
	Expiry  *Expiry `json:",omitempty"` // see Expire and Retain; nil: documents stay until they are deleted
	Steps   []Step  `json:"-"`          // see Migrate
	accepts int     // see Accept

	SingleUse bool   `json:"-"` // see SingleUse
	Admin     *Admin `json:"-"` // nil: the documents are not shown
	Entity    bool   `json:"-"` // see Entity

	Type reflect.Type `json:"-"` // of the documents; nil: they have no type of their own

	// Rewrite changes a document in Backfill beside the Steps, if it has to, and returns whether it has. Nil: nothing
	// does.
	Rewrite func(ctx context.Context, tx *Tx, id string) (changed bool, err error) `json:"-"`
}

// Option is a part of the declaration of a collection: an Index, Large, SingleUse, Entity, Expire, Retain, Migrate,
// Accept or Admin.
type Option interface{ declare(*Spec) }

func (i Index) declare(s *Spec) { s.Indexes = append(s.Indexes, i) }

// Large declares that most documents have about a kilobyte or more, for drivers that store large documents differently.
// It affects the cost only.
var Large Option = large{}

// SingleUse declares that an id is not used again after its document was deleted: random ids, or ones made of the time.
// No mark of a deleted document is kept then, which saves a write for each deletion. If an id is used again after all,
// its versions start again, in a Collection at a number that depends on the new document: so a unit that has read the
// deleted one does not take the new one for it, unless both are the same.
var SingleUse Option = singleUse{}

// Entity declares that the documents are the entities that the function's facts are about: an event about "a1" has the
// version of the document "a1" as its sequence. A function may have several such collections, of different ids.
var Entity Option = entity{}

type (
	large     struct{}
	singleUse struct{}
	entity    struct{}
)

func (large) declare(s *Spec)     { s.Large = true }
func (singleUse) declare(s *Spec) { s.SingleUse = true }
func (entity) declare(s *Spec)    { s.Entity = true }

// Schema declares all collections of one function. Opening a driver with a schema creates missing collections and
// indexes, and may be done by many instances concurrently.
type Schema []Spec

// Spec returns the declaration of a collection, and whether it is declared.
func (s Schema) Spec(name string) (Spec, bool) {
	i := slices.IndexFunc(s, func(c Spec) bool { return c.Name == name })
	if i < 0 {
		return Spec{}, false
	}
	return s[i], true
}

// Opener opens the database of one function. The host chooses the opener; a function only declares its schema.
type Opener func(ctx context.Context, function string, schema Schema) (Driver, error)

// CheckKeys returns an error for a key of an undeclared collection. Every driver calls it in Get.
func (s Schema) CheckKeys(keys ...Key) error {
	for _, k := range keys {
		if _, ok := s.Spec(k.Collection); !ok {
			return undeclared(k.Collection)
		}
	}
	return nil
}

// CheckBatch does the same for a batch. Every driver calls it in Commit.
func (s Schema) CheckBatch(b Batch) error {
	for _, p := range b.Preconditions {
		if err := s.CheckKeys(p.Key); err != nil {
			return err
		}
	}
	for _, m := range b.Mutations {
		if err := s.CheckKeys(m.Key); err != nil {
			return err
		}
	}
	return nil
}

func undeclared(collection string) error {
	return fault.New(fault.Internal, "collection %q is not declared", collection)
}

// Check returns an error for a query that no declared index covers, so that it fails with every driver and not only
// with one that needs the index. Every driver calls it in Query.
func (s Schema) Check(q Query) error {
	spec, ok := s.Spec(q.Collection)
	if !ok {
		return undeclared(q.Collection)
	}
	if q.Limit < 1 || q.Limit > MaxLimit {
		return fault.New(fault.Internal, "query of %q: invalid limit %d: want 1 to %d", q.Collection, q.Limit, MaxLimit)
	}
	if q.After != nil && len(q.After.Values) != len(q.Order) {
		return fault.New(fault.Invalid, "the cursor does not belong to this query")
	}
	if len(q.Where) == 0 && len(q.Order) == 0 {
		return nil
	}
	if slices.ContainsFunc(spec.Indexes, func(i Index) bool { return i.covers(q) }) {
		return nil
	}
	return fault.New(
		fault.Internal, "query of %q is not covered by a declared index: %v %v", q.Collection, q.Where, q.Order,
	)
}

// covers reports whether the index serves the query.
func (i Index) covers(q Query) bool {
	equal, ranged := map[string]bool{}, ""
	for _, f := range q.Where {
		switch {
		case f.Op == Equal:
			equal[f.Field] = true
		case ranged == "" || ranged == f.Field:
			ranged = f.Field
		default:
			return false // two ranges cannot share one index
		}
	}
	if len(i.Fields) < len(equal) {
		return false
	}
	for _, f := range i.Fields[:len(equal)] {
		if !equal[f] {
			return false
		}
	}
	rest := i.Fields[len(equal):]
	if ranged != "" && (len(rest) == 0 || rest[0] != ranged || len(q.Order) > 0 && q.Order[0].Field != ranged) {
		return false
	}
	if len(rest) < len(q.Order) {
		return false
	}
	for n, o := range q.Order {
		if rest[n] != o.Field || o.Desc != q.Order[0].Desc {
			return false
		}
	}
	return true
}
