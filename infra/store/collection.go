package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"hash/fnv"
	"reflect"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Collection is a typed view of one collection. Its methods work in the transaction that they are given and may be
// called concurrently for different transactions.
type Collection[T any] struct {
	spec    Spec
	members map[string]bool // the JSON members of T; nil when T may have any
}

// NewCollection declares a collection of T, a struct that marshals to a JSON object.
func NewCollection[T any](name string, options ...Option) *Collection[T] {
	c := &Collection[T]{spec: Spec{Name: name, Type: reflect.TypeFor[T]()}, members: membersOf(reflect.TypeFor[T]())}
	for _, o := range options {
		o.declare(&c.spec)
	}
	c.spec.resolve(reflect.TypeFor[T]())
	if c.members != nil {
		c.members[revisionMember] = true
	}
	return c
}

// Spec returns the declaration of the collection for the function's schema.
func (c *Collection[T]) Spec() Spec { return c.spec }

// Key returns the key of the document with this id.
func (c *Collection[T]) Key(id string) Key { return Key{c.spec.Name, id} }

// Get returns a document; fault.NotFound when it is missing.
func (c *Collection[T]) Get(ctx context.Context, tx Transactor, id string) (T, error) {
	v, ok, err := c.Find(ctx, tx, id)
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "there is no such entry in %s", c.spec.Name)
	}
	return v, err
}

// Find returns a document, and whether it exists.
func (c *Collection[T]) Find(ctx context.Context, tx Transactor, id string) (T, bool, error) {
	v, version, err := c.Read(ctx, tx, id)
	return v, version > 0, err
}

// Read returns a document and its version; version 0 when it is missing.
func (c *Collection[T]) Read(ctx context.Context, tx Transactor, id string) (v T, version int64, err error) {
	d, err := tx.StoreTx().Get(ctx, c.Key(id))
	if err != nil || d.Version == 0 {
		return v, 0, err
	}
	return v, d.Version, c.decode(d, &v)
}

// Version returns the document's version; 0 when it is missing.
func (c *Collection[T]) Version(ctx context.Context, tx Transactor, id string) (int64, error) {
	d, err := tx.StoreTx().Get(ctx, c.Key(id))
	return d.Version, err
}

// GetMany returns several documents, read in one call of the driver. Missing ones are not in the map.
func (c *Collection[T]) GetMany(ctx context.Context, tx Transactor, ids ...string) (map[string]T, error) {
	keys := make([]Key, len(ids))
	for i, id := range ids {
		keys[i] = c.Key(id)
	}
	if err := tx.StoreTx().Load(ctx, keys...); err != nil {
		return nil, err
	}
	found := make(map[string]T, len(ids))
	for _, id := range ids {
		v, ok, err := c.Find(ctx, tx, id)
		if err != nil {
			return nil, err
		}
		if ok {
			found[id] = v
		}
	}
	return found, nil
}

// Put creates or replaces a document. The commit fails with fault.Conflict when another transaction has changed it
// since.
//
// Members of the stored document that T does not have are preserved: they belong to another version of the function,
// which runs beside this one while traffic moves from one to the other. This holds for the members of the document
// itself, not for those of a struct within it. Use Replace to drop them.
func (c *Collection[T]) Put(ctx context.Context, tx Transactor, id string, v T) error {
	data, err := c.encode(v)
	if err != nil {
		return err
	}
	before, err := tx.StoreTx().Get(ctx, c.Key(id))
	if err != nil {
		return err
	}
	if before.Version > 0 {
		stored, _, err := c.spec.Migrated(before)
		if err != nil {
			return err
		}
		if c.members != nil {
			data = preserve(stored, data, c.members)
		}
	}
	_, err = tx.StoreTx().set(ctx, c.Key(id), data, c.first(data))
	return err
}

// Replace does as Put does, but nothing of the stored document stays: members that T does not have are dropped too. It
// is for an erasure, which must also erase what another version of the function has stored.
func (c *Collection[T]) Replace(ctx context.Context, tx Transactor, id string, v T) error {
	data, err := c.encode(v)
	if err != nil {
		return err
	}
	_, err = tx.StoreTx().set(ctx, c.Key(id), data, c.first(data))
	return err
}

// Create writes a document that must not exist. When it does, Create or the commit fails with fault.Conflict.
func (c *Collection[T]) Create(ctx context.Context, tx Transactor, id string, v T) error {
	data, err := c.encode(v)
	if err != nil {
		return err
	}
	return tx.StoreTx().create(ctx, c.Key(id), data, c.first(data))
}

// first returns the least version of a new document. Where no marks of deleted documents are kept it depends on the
// document: so a unit that has read one takes no other one of the id for it.
func (c *Collection[T]) first(data json.RawMessage) int64 {
	if !c.spec.SingleUse {
		return 1
	}
	sum := fnv.New64a()
	_, _ = sum.Write(data) // never fails
	return int64(sum.Sum64()>>12) + 1
}

// Delete removes a document. Removing a missing one is no error.
func (c *Collection[T]) Delete(ctx context.Context, tx Transactor, id string) error {
	return tx.StoreTx().Delete(ctx, c.Key(id))
}

func (c *Collection[T]) encode(v T) (json.RawMessage, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "encode an entry of %s", c.spec.Name)
	}
	return c.spec.Stamped(data), nil
}

func (c *Collection[T]) decode(d Document, v *T) error {
	data, _, err := c.spec.Migrated(d)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fault.Wrap(err, fault.Internal, "decode %s of %s", d.ID, c.spec.Name)
	}
	return nil
}

// Find is a typed query. Limit 0 means 50. Cursor is the Next of the page before, or empty.
type Find struct {
	Where  []Filter
	Order  []Order
	Limit  int
	Cursor string
}

// Item is one document of a page.
type Item[T any] struct {
	ID      string
	Version int64
	Value   T
}

// Page is a part of a query's result. Next is the cursor of the next page, and empty on the last one.
type Page[T any] struct {
	Items []Item[T]
	Next  string
}

// Query returns a page. A cursor that is invalid, or has another number of order fields than the query, is
// fault.Invalid.
func (c *Collection[T]) Query(ctx context.Context, tx Transactor, f Find) (Page[T], error) {
	q := Query{Collection: c.spec.Name, Where: f.Where, Order: f.Order, Limit: f.Limit}
	if q.Limit == 0 {
		q.Limit = 50
	}
	if f.Cursor != "" {
		p, err := DecodeCursor(f.Cursor)
		if err != nil {
			return Page[T]{}, err
		}
		q.After = &p
	}
	docs, more, err := tx.StoreTx().Query(ctx, q)
	if err != nil {
		return Page[T]{}, err
	}
	page := Page[T]{Items: make([]Item[T], len(docs))}
	for i, d := range docs {
		page.Items[i].ID, page.Items[i].Version = d.ID, d.Version
		if err := c.decode(d, &page.Items[i].Value); err != nil {
			return Page[T]{}, err
		}
	}
	if more && len(docs) > 0 {
		page.Next = EncodeCursor(PositionOf(docs[len(docs)-1], f.Order))
	}
	return page, nil
}

// EncodeCursor returns a position as an opaque, URL-safe text.
func EncodeCursor(p Position) string {
	data, _ := json.Marshal(append([]any{p.ID}, p.Values...)) // strings, numbers and bools always marshal
	return base64.RawURLEncoding.EncodeToString(data)
}

// DecodeCursor returns the position of a cursor. A text that EncodeCursor cannot have written is fault.Invalid.
func DecodeCursor(cursor string) (Position, error) {
	invalid := fault.New(fault.Invalid, "invalid cursor")
	data, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return Position{}, invalid
	}
	var parts []any
	if err := json.Unmarshal(data, &parts); err != nil || len(parts) == 0 {
		return Position{}, invalid
	}
	for _, part := range parts {
		switch part.(type) {
		case nil, string, float64, bool:
		default:
			return Position{}, invalid
		}
	}
	id, ok := parts[0].(string)
	if !ok {
		return Position{}, invalid
	}
	return Position{ID: id, Values: parts[1:]}, nil
}
