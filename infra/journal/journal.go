// Package journal stores event-sourced aggregates: the events of each in order, and a snapshot of the state that they
// lead to.
//
//	accounts := journal.New(f, "accounts", func(a Account, e Moved) Account {
//		a.Balance += e.Amount
//		return a
//	})
//
//	account, err := accounts.Change(ctx, tx, id, func(a Account) ([]Moved, error) {
//		if a.Balance < amount {
//			return nil, fault.New(fault.Invalid, "the balance is %d", a.Balance)
//		}
//		return []Moved{{Amount: -amount}}, nil
//	})
//
// An aggregate is a head document, whose id is the aggregate's, and one document for each group of events that was
// appended together, whose id is "<aggregate>/<version>". The head has the version, which counts the groups, the
// snapshot, and the revision of the fold that made it. Loading reads only the head. When the revision of the fold is
// not that of the snapshot, the snapshot is folded again from the events, and stored by the next append. Only Query
// queries the store.
//
// Concurrency is optimistic: every append writes the head, so of two units of work that append to one aggregate the
// store commits one and the kit runs the other again.
//
// Fields of a state or an event that have the tag personal (see package personal) are stored encrypted under the
// function's key for the person, and are placeholders once the person is erased. What was stored before a field had the
// tag is encrypted in the background, as documents are migrated (see store.Migrate).
//
// The events of a journal are private to its function and no contract. They are read for as long as the aggregate
// exists, so every later fold must read what an older version wrote.
package journal

import (
	"context"
	"reflect"
	"slices"
	"strconv"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store"
)

// Journal stores aggregates of state S made of events E. Its methods may be called concurrently for different units of
// work.
type Journal[S, E any] struct {
	name     string
	fold     func(S, E) S
	revision int
	heads    *store.Collection[Head[S]]
	groups   *store.Collection[Group[E]]
	personal cipher
}

// Head is the current state of an aggregate.
type Head[S any] struct {
	Version  int64 `json:"version"`  // the number of groups of events
	Revision int   `json:"revision"` // of the fold that made the snapshot
	State    S     `json:"state"`
}

// Group is the events that were appended together. Version starts with 1.
type Group[E any] struct {
	Version int64 `json:"version"`
	Events  []E   `json:"events"`
}

// Option changes a journal.
type Option func(*options)

type options struct {
	revision int
	heads    []store.Option
}

// Revision sets the revision of the fold, which is 1 without it. Increase it when the fold makes another state from the
// same events. Queries see a new field of an aggregate from its next append on.
func Revision(n int) Option { return func(o *options) { o.revision = n } }

// Indexes declares the fields of the snapshot that Query filters and orders by, such as "state.customer_id".
func Indexes(indexes ...store.Index) Option {
	return func(o *options) {
		for _, i := range indexes {
			o.heads = append(o.heads, i)
		}
	}
}

// New declares a journal of the function: the collections name and name_events. The fold must be pure and must not
// change the state that it is given; the zero S is the state of an aggregate without events.
func New[S, E any](f *function.Function, name string, fold func(S, E) S, opts ...Option) *Journal[S, E] {
	o := options{revision: 1, heads: []store.Option{store.Large, store.Entity}}
	for _, opt := range opts {
		opt(&o)
	}
	j := &Journal[S, E]{
		name: name, fold: fold, revision: o.revision, personal: newCipher(f, reflect.TypeFor[S](), reflect.TypeFor[E]()),
		heads:  function.Collection[Head[S]](f, name, o.heads...),
		groups: function.Collection[Group[E]](f, name+"_events"),
	}
	j.sealStored()
	return j
}

// Key returns the key of the document that Load reads, for function.Prefetch.
func (j *Journal[S, E]) Key(id string) store.Key { return j.heads.Key(id) }

// Load returns the aggregate's state; fault.NotFound when the aggregate has no events.
func (j *Journal[S, E]) Load(ctx context.Context, u store.Transactor, id string) (S, error) {
	s, ok, err := j.Find(ctx, u, id)
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "there is no such entry in %s", j.name)
	}
	return s, err
}

// Find returns the state of an aggregate, and false if it does not exist.
func (j *Journal[S, E]) Find(ctx context.Context, u store.Transactor, id string) (S, bool, error) {
	h, err := j.head(ctx, u, id)
	return h.State, h.Version > 0, err
}

func (j *Journal[S, E]) head(ctx context.Context, u store.Transactor, id string) (Head[S], error) {
	h, ok, err := j.heads.Find(ctx, u, id)
	if err != nil || !ok {
		return Head[S]{}, err
	}
	if err := j.personal.open(ctx, u, j.personal.state, &h.State); err != nil {
		return Head[S]{}, err
	}
	return h, j.refresh(ctx, u, id, &h)
}

// refresh folds the events again if a fold of another revision made the snapshot.
func (j *Journal[S, E]) refresh(ctx context.Context, u store.Transactor, id string, h *Head[S]) error {
	if h.Revision == j.revision {
		return nil
	}
	groups, err := j.groupsTo(ctx, u, id, h.Version)
	if err != nil {
		return err
	}
	var s S
	for _, g := range groups {
		s = j.folded(s, g.Events)
	}
	h.State, h.Revision = s, j.revision
	return nil
}

func (j *Journal[S, E]) folded(s S, happened []E) S {
	for _, e := range happened {
		s = j.fold(s, e)
	}
	return s
}

// Create stores a new aggregate with its first events and returns its state. An aggregate that exists is
// fault.Conflict. Create reads nothing.
func (j *Journal[S, E]) Create(ctx context.Context, u store.Transactor, id string, happened ...E) (S, error) {
	var s S
	h := Head[S]{Version: 1, Revision: j.revision, State: j.folded(s, happened)}
	if len(happened) == 0 {
		return s, fault.New(fault.Internal, "create %s in %s: no events", id, j.name)
	}
	sealed, err := j.sealed(ctx, u, h)
	if err != nil {
		return s, err
	}
	if err := j.heads.Create(ctx, u, id, sealed); err != nil {
		return s, err
	}
	return h.State, j.addGroup(ctx, u, id, 1, happened)
}

// sealed returns the head as it is stored, with the personal fields of its state encrypted.
func (j *Journal[S, E]) sealed(ctx context.Context, u store.Transactor, h Head[S]) (Head[S], error) {
	return h, j.personal.seal(ctx, u, j.personal.state, &h.State)
}

// addGroup stores events with their personal fields encrypted.
func (j *Journal[S, E]) addGroup(
	ctx context.Context, u store.Transactor, id string, version int64, happened []E,
) error {
	g := Group[E]{version, slices.Clone(happened)}
	for i := range g.Events {
		if err := j.personal.seal(ctx, u, j.personal.event, &g.Events[i]); err != nil {
			return err
		}
	}
	return j.groups.Create(ctx, u, groupID(id, version), g)
}

// Append adds events to the aggregate, as one group, and returns its new state. It creates an aggregate that does not
// exist. Appending no events changes nothing.
func (j *Journal[S, E]) Append(ctx context.Context, u store.Transactor, id string, happened ...E) (S, error) {
	h, err := j.head(ctx, u, id)
	if err != nil {
		return h.State, err
	}
	return j.append(ctx, u, id, h, happened)
}

// Change loads the aggregate, calls decide with its state and appends the events that decide returns, as Load and
// Append would together, but reads the head once. It returns the new state, or the old one if there are no events.
func (j *Journal[S, E]) Change(
	ctx context.Context, u store.Transactor, id string, decide func(S) ([]E, error),
) (S, error) {
	h, err := j.head(ctx, u, id)
	if err != nil {
		return h.State, err
	}
	if h.Version == 0 {
		return h.State, fault.New(fault.NotFound, "there is no such entry in %s", j.name)
	}
	happened, err := decide(h.State)
	if err != nil {
		return h.State, err
	}
	return j.append(ctx, u, id, h, happened)
}

func (j *Journal[S, E]) append(ctx context.Context, u store.Transactor, id string, h Head[S], happened []E) (S, error) {
	if len(happened) == 0 {
		return h.State, nil
	}
	h = Head[S]{Version: h.Version + 1, Revision: j.revision, State: j.folded(h.State, happened)}
	sealed, err := j.sealed(ctx, u, h)
	if err != nil {
		return h.State, err
	}
	if err := j.heads.Put(ctx, u, id, sealed); err != nil {
		return h.State, err
	}
	return h.State, j.addGroup(ctx, u, id, h.Version, happened)
}

// History returns all events of the aggregate, in order; fault.NotFound when it does not exist.
func (j *Journal[S, E]) History(ctx context.Context, u store.Transactor, id string) ([]Group[E], error) {
	h, err := j.heads.Get(ctx, u, id)
	if err != nil {
		return nil, err
	}
	return j.groupsTo(ctx, u, id, h.Version)
}

// groupsTo reads the groups 1 to version by their keys.
func (j *Journal[S, E]) groupsTo(
	ctx context.Context, u store.Transactor, id string, version int64,
) ([]Group[E], error) {
	ids := make([]string, version)
	for i := range ids {
		ids[i] = groupID(id, int64(i)+1)
	}
	found, err := j.groups.GetMany(ctx, u, ids...)
	if err != nil {
		return nil, err
	}
	all := make([]Group[E], len(ids))
	for i := range ids {
		g, ok := found[ids[i]]
		if !ok {
			return nil, fault.New(fault.Internal, "%s %s has lost its events of version %d", j.name, id, i+1)
		}
		for n := range g.Events {
			if err := j.personal.open(ctx, u, j.personal.event, &g.Events[n]); err != nil {
				return nil, err
			}
		}
		all[i] = g
	}
	return all, nil
}

// Query returns a page of aggregates by fields of their snapshots ("state.customer_id"). The version of an item is that
// of its aggregate.
func (j *Journal[S, E]) Query(ctx context.Context, u store.Transactor, f store.Find) (store.Page[S], error) {
	found, err := j.heads.Query(ctx, u, f)
	if err != nil {
		return store.Page[S]{}, err
	}
	page := store.Page[S]{Items: make([]store.Item[S], len(found.Items)), Next: found.Next}
	for i, item := range found.Items {
		h := item.Value
		if err := j.personal.open(ctx, u, j.personal.state, &h.State); err != nil {
			return store.Page[S]{}, err
		}
		if err := j.refresh(ctx, u, item.ID, &h); err != nil {
			return store.Page[S]{}, err
		}
		page.Items[i] = store.Item[S]{ID: item.ID, Version: h.Version, Value: h.State}
	}
	return page, nil
}

func groupID(id string, version int64) string { return id + "/" + strconv.FormatInt(version, 10) }
