package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"reflect"

	"github.com/ebb-dev/ebb/infra/fault"
)

// Collection is a typed view of one collection. Its methods work in the transaction of
// the unit they are given and may be called concurrently for different units.
type Collection[T any] struct {
	spec    Spec
	members map[string]bool // that T has; nil when it may have any
}

// NewCollection declares a collection of T, a struct that marshals to a JSON object.
func NewCollection[T any](name string, options ...Option) *Collection[T] {
	c := &Collection[T]{spec: Spec{Name: name}, members: membersOf(reflect.TypeFor[T]())}
	for _, o := range options {
		o.declare(&c.spec)
	}
	return c
}

// Spec is what the schema of the function says of the collection.
func (c *Collection[T]) Spec() Spec { return c.spec }

// Key names the document with this id.
func (c *Collection[T]) Key(id string) Key { return Key{c.spec.Name, id} }

// Get reads a document; fault.NotFound when it is missing.
func (c *Collection[T]) Get(ctx context.Context, u Unit, id string) (T, error) {
	v, ok, err := c.Find(ctx, u, id)
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "there is no such entry in %s", c.spec.Name)
	}
	return v, err
}

// Find reads a document that may be missing.
func (c *Collection[T]) Find(ctx context.Context, u Unit, id string) (T, bool, error) {
	v, version, err := c.Read(ctx, u, id)
	return v, version > 0, err
}

// Read reads a document with its version; 0 when it is missing.
func (c *Collection[T]) Read(ctx context.Context, u Unit, id string) (v T, version int64, err error) {
	d, err := u.StoreTx().Get(ctx, c.Key(id))
	if err != nil || d.Version == 0 {
		return v, 0, err
	}
	return v, d.Version, c.decode(d, &v)
}

// Version is the document's version; 0 when it is missing.
func (c *Collection[T]) Version(ctx context.Context, u Unit, id string) (int64, error) {
	d, err := u.StoreTx().Get(ctx, c.Key(id))
	return d.Version, err
}

// GetMany reads several documents in one call; missing ones are not in the map.
func (c *Collection[T]) GetMany(ctx context.Context, u Unit, ids ...string) (map[string]T, error) {
	keys := make([]Key, len(ids))
	for i, id := range ids {
		keys[i] = c.Key(id)
	}
	if err := u.StoreTx().Load(ctx, keys...); err != nil {
		return nil, err
	}
	found := make(map[string]T, len(ids))
	for _, id := range ids {
		v, ok, err := c.Find(ctx, u, id)
		if err != nil {
			return nil, err
		}
		if ok {
			found[id] = v
		}
	}
	return found, nil
}

// Put creates or replaces a document. The commit fails with fault.Conflict when somebody else changed it since.
//
// Members of the document before that T does not have stay: they are those of another version of the function, which
// runs beside this one while traffic goes from one to the other. Only whole members of the document count, not those of
// a struct within it.
func (c *Collection[T]) Put(ctx context.Context, u Unit, id string, v T) error {
	data, err := c.encode(v)
	if err != nil {
		return err
	}
	before, err := u.StoreTx().Get(ctx, c.Key(id))
	if err != nil {
		return err
	}
	if c.members != nil && before.Version > 0 {
		data = keep(before.Data, data, c.members)
	}
	_, err = u.StoreTx().Set(ctx, c.Key(id), data)
	return err
}

// Create writes a document that must not exist; fault.Conflict when it does.
func (c *Collection[T]) Create(ctx context.Context, u Unit, id string, v T) error {
	data, err := c.encode(v)
	if err != nil {
		return err
	}
	return u.StoreTx().Create(ctx, c.Key(id), data)
}

// Delete removes a document; one that is missing is no fault.
func (c *Collection[T]) Delete(ctx context.Context, u Unit, id string) error {
	return u.StoreTx().Delete(ctx, c.Key(id))
}

func (c *Collection[T]) encode(v T) (json.RawMessage, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "encode an entry of %s", c.spec.Name)
	}
	return data, nil
}

func (c *Collection[T]) decode(d Document, v *T) error {
	if err := json.Unmarshal(d.Data, v); err != nil {
		return fault.Wrap(err, fault.Internal, "decode %s of %s", d.ID, c.spec.Name)
	}
	return nil
}

// Find is a typed query. Limit 0 is 50. Cursor is the Next of the page before, or empty.
type Find struct {
	Where  []Filter
	Order  []Order
	Limit  int
	Cursor string
}

// Item is a document of a page.
type Item[T any] struct {
	ID      string
	Version int64
	Value   T
}

// Page is a part of a query's answer. Next is the cursor of the page after it, empty when this is the last.
type Page[T any] struct {
	Items []Item[T]
	Next  string
}

// Query reads a page. A cursor that was not made by the same query is fault.Invalid.
func (c *Collection[T]) Query(ctx context.Context, u Unit, f Find) (Page[T], error) {
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
	docs, more, err := u.StoreTx().Query(ctx, q)
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

// EncodeCursor writes a position as an opaque, URL-safe text.
func EncodeCursor(p Position) string {
	data, _ := json.Marshal(append([]any{p.ID}, p.Values...)) // strings, numbers and bools always marshal
	return base64.RawURLEncoding.EncodeToString(data)
}

// DecodeCursor reads what EncodeCursor wrote; anything else is fault.Invalid.
func DecodeCursor(cursor string) (Position, error) {
	bad := fault.New(fault.Invalid, "the cursor is not one of ours")
	data, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return Position{}, bad
	}
	var parts []any
	if err := json.Unmarshal(data, &parts); err != nil || len(parts) == 0 {
		return Position{}, bad
	}
	for _, part := range parts {
		switch part.(type) {
		case nil, string, float64, bool:
		default:
			return Position{}, bad
		}
	}
	id, ok := parts[0].(string)
	if !ok {
		return Position{}, bad
	}
	return Position{ID: id, Values: parts[1:]}, nil
}
