package firestore

import (
	"unicode/utf8"

	"cloud.google.com/go/firestore"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/firestore/layout"
)

// Firestore's limits, in bytes. See its page "Quotas and limits".
const (
	maxDocument = 1 << 20
	maxValue    = 1<<20 - 89
	maxIndexed  = 1500
	maxCommit   = 10 << 20
)

// record is the form of a document in Firestore; see package layout.
type record struct {
	Version int64          `firestore:"version"`
	Data    string         `firestore:"data"`
	Layout  int64          `firestore:"layout"`
	Keys    map[string]any `firestore:"keys,omitempty"`
	ID      string         `firestore:"id,omitempty"`
	Last    int64          `firestore:"last,omitempty"`
}

// recordOf returns the record of a mutation and its reference. It refuses what Firestore would refuse, with clearer
// errors.
func (s *Store) recordOf(m store.Mutation) (record, *firestore.DocumentRef, error) {
	ref, err := s.ref(m.Key)
	if err != nil || m.Data == nil {
		return record{}, ref, err
	}
	if !utf8.Valid(m.Data) {
		return record{}, nil, fault.New(fault.Invalid, "%s %q is not UTF-8 text", m.Collection, m.ID)
	}
	at := s.states[m.Collection]
	r := record{Version: m.Version, Data: string(m.Data), Layout: at.Layout, Keys: at.keys(m.Data)}
	if layout.IsHash(ref.ID) {
		r.ID = m.ID
	}
	for _, path := range at.Fields {
		if text, ok := r.Keys[layout.Key(path)].(string); ok && len(text) > maxIndexed {
			return record{}, nil, fault.New(fault.Invalid, "%s of %s %q has %d bytes; Firestore indexes at most %d",
				path, m.Collection, m.ID, len(text), maxIndexed)
		}
	}
	if size := r.size(ref); size > maxDocument || len(r.Data) >= maxValue {
		return record{}, nil, fault.New(fault.TooLarge, "%s %q has %d bytes; Firestore keeps documents of at most %d, "+
			"names and indexes included",
			m.Collection, m.ID, size, maxDocument)
	}
	return r, ref, nil
}

// size returns the size of a record by Firestore's rules.
func (r record) size(ref *firestore.DocumentRef) int {
	const number, ofName, ofDocument = 8, 16, 32
	named := func(name string, size int) int { return len(name) + 1 + size }
	size := ofName + len(ref.Parent.ID) + 1 + len(ref.ID) + 1 + ofDocument
	size += named(layout.Version, number) + named(layout.Layout, number) + named(layout.Data, len(r.Data)+1)
	size += named(layout.Last, number) // a document that was created again has it
	if len(r.Keys) > 0 {
		size += named(layout.Keys, ofDocument)
	}
	for name, v := range r.Keys {
		switch v := v.(type) {
		case string:
			size += named(name, len(v)+1)
		case float64:
			size += named(name, number)
		default:
			size += named(name, 1)
		}
	}
	if r.ID != "" {
		size += named(layout.ID, len(r.ID)+1)
	}
	return size
}

// updates returns the updates that replace an existing record or mark by this one: every field but ID, which never
// changes, and Last.
func (r record) updates(mark bool) []firestore.Update {
	u := []firestore.Update{
		{Path: layout.Version, Value: r.Version}, {Path: layout.Data, Value: r.Data}, {Path: layout.Layout, Value: r.Layout},
	}
	if mark {
		u = append(u, firestore.Update{Path: layout.Deleted, Value: firestore.Delete})
	}
	if len(r.Keys) > 0 {
		u = append(u, firestore.Update{Path: layout.Keys, Value: r.Keys})
	}
	return u
}

// merged returns the record for a Set that keeps Last, and the fields that it sets.
func (r record) merged() (data map[string]any, fields firestore.SetOption) {
	data = map[string]any{
		layout.Version: r.Version, layout.Data: r.Data, layout.Layout: r.Layout, layout.Deleted: firestore.Delete,
	}
	if len(r.Keys) > 0 {
		data[layout.Keys] = r.Keys
	}
	if r.ID != "" {
		data[layout.ID] = r.ID
	}
	var paths []firestore.FieldPath
	for name := range data {
		paths = append(paths, firestore.FieldPath{name})
	}
	return data, firestore.Merge(paths...)
}

// document returns the document of a snapshot.
func (s *Store) document(k store.Key, snap *firestore.DocumentSnapshot) (store.Document, error) {
	if !snap.Exists() {
		return store.Document{Key: k, Last: s.floors.Of(k.Collection)}, nil
	}
	var r record
	err := snap.DataTo(&r)
	if err == nil && r.Version == 0 && r.Last > 0 {
		s.seen.Put(k, sight{last: r.Last, updated: snap.UpdateTime})
		return store.Document{Key: k, Last: max(r.Last, s.floors.Of(k.Collection))}, nil
	}
	if err != nil || r.Version == 0 {
		return store.Document{}, fault.Wrap(err, fault.Internal, "%s %q was not written by this driver", k.Collection, k.ID)
	}
	s.seen.Put(k, sight{version: r.Version, updated: snap.UpdateTime})
	return store.Document{Key: k, Version: r.Version, Data: []byte(r.Data)}, nil
}

// found returns the document of a query's snapshot.
func (s *Store) found(collection string, snap *firestore.DocumentSnapshot) (store.Document, error) {
	k := store.Key{Collection: collection}
	if !layout.IsHash(snap.Ref.ID) {
		k.ID = layout.IDOf(snap.Ref.ID)
		return s.document(k, snap)
	}
	id, err := snap.DataAt(layout.ID)
	k.ID, _ = id.(string)
	if err != nil || k.ID == "" {
		return store.Document{}, fault.Wrap(
			err, fault.Internal, "%s %q was not written by this driver", collection, snap.Ref.ID,
		)
	}
	return s.document(k, snap)
}

func (s *Store) ref(k store.Key) (*firestore.DocumentRef, error) {
	c, err := s.collection(k.Collection)
	if err != nil {
		return nil, err
	}
	name, err := layout.Name(k.ID)
	if err != nil {
		return nil, err
	}
	return c.Doc(name), nil
}

func (s *Store) refs(keys []store.Key) (refs []*firestore.DocumentRef, err error) {
	refs = make([]*firestore.DocumentRef, len(keys))
	for i, k := range keys {
		if refs[i], err = s.ref(k); err != nil {
			return nil, err
		}
	}
	return refs, nil
}

func (s *Store) collection(name string) (*firestore.CollectionRef, error) {
	name, err := layout.Collection(name)
	if err != nil {
		return nil, err
	}
	return s.client.Collection(name), nil
}
