package firestore

import (
	"context"
	"slices"
	"time"

	"cloud.google.com/go/firestore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/firestore/layout"
	"github.com/ebb-dev/ebb/infra/store/internal/field"
	"github.com/ebb-dev/ebb/infra/store/internal/marks"
)

// registry is the collection of the register, its only document. No collection of a function has this name.
const registry, register = "schema.ebb", "register"

// overlap is how long instances with an older schema may write after a newer one was registered.
const overlap = 24 * time.Hour

// lag is how old the last search for documents of such instances may be during the overlap.
var lag = 10 * time.Second

// registered is the register: the function that the database belongs to, and its collections.
type registered struct {
	Function    string                 `firestore:"function"`
	Collections map[string]state       `firestore:"collections"`
	Floors      map[string]marks.Floor `firestore:"floors"` // of marks that are removed; see marks.go
}

// state holds the fields of a collection that have keys. Fields are only added, so that an older instance that starts
// beside a newer one writes the keys that the newer one needs.
type state struct {
	Fields []string  `firestore:"fields"`
	Layout int64     `firestore:"layout"` // increased each time that fields are added
	Since  time.Time `firestore:"since"`  // when fields were last added
	Swept  bool      `firestore:"swept"`  // whether all documents of before have the keys
}

// keys returns the values of the fields with keys.
func (st state) keys(data []byte) map[string]any {
	if len(st.Fields) == 0 {
		return nil
	}
	keys := make(map[string]any, len(st.Fields))
	for _, path := range st.Fields {
		keys[layout.Key(path)] = field.Value(data, path)
	}
	return keys
}

// settled reports whether every document has all keys.
func (st state) settled() bool { return st.Swept && time.Since(st.Since) > overlap }

// register adds the schema's declarations to the register, and reads the register.
func (s *Store) register(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var all registered
	if err := s.change(ctx, func(r *registered) (bool, error) {
		changed, err := r.add(s.config.Function, s.schema)
		all = *r
		return changed, err
	}); err != nil {
		return err
	}
	states, sweeps := map[string]state{}, map[string]*task{}
	for _, spec := range s.schema {
		name, err := layout.Collection(spec.Name)
		if err != nil {
			return err
		}
		st := all.Collections[name]
		if states[spec.Name] = st; !st.settled() {
			sweeps[spec.Name] = &task{run: func(ctx context.Context) error { return s.sweep(ctx, name, &st) }}
		}
	}
	s.states, s.sweeps = states, sweeps
	s.learnFloors(all)
	return nil
}

// change changes the register in a transaction.
func (s *Store) change(ctx context.Context, f func(*registered) (changed bool, err error)) error {
	ref := s.client.Collection(registry).Doc(register)
	for n := 1; ; n++ {
		var snap *firestore.DocumentSnapshot
		err := again(ctx, func() error {
			snaps, err := s.client.GetAll(ctx, []*firestore.DocumentRef{ref})
			if err == nil {
				snap = snaps[0]
			}
			return err
		})
		if err != nil {
			return err
		}
		var r registered
		if snap.Exists() {
			if err := snap.DataTo(&r); err != nil {
				return fault.Wrap(err, fault.Internal, "the register of the database is invalid")
			}
		}
		if changed, err := f(&r); err != nil || !changed {
			return err
		}
		if snap.Exists() {
			_, err = ref.Update(ctx, []firestore.Update{
				{Path: "function", Value: r.Function}, {Path: "collections", Value: r.Collections},
				{Path: "floors", Value: r.Floors},
			},
				firestore.LastUpdateTime(snap.UpdateTime))
		} else {
			_, err = ref.Create(ctx, r)
		}
		switch status.Code(err) {
		case codes.AlreadyExists, codes.FailedPrecondition, codes.NotFound, codes.Aborted:
			if pause(ctx, min(n, attempts)) {
				continue
			}
		}
		return err
	}
}

// add adds the declarations of a schema.
func (r *registered) add(function string, schema store.Schema) (changed bool, err error) {
	if r.Function == "" && function != "" {
		r.Function, changed = function, true
	}
	if function != "" && r.Function != function {
		return false, fault.New(
			fault.Internal, "the database belongs to the function %s; give %s a database of its own", r.Function, function,
		)
	}
	if r.Collections == nil {
		r.Collections = map[string]state{}
	}
	for _, spec := range schema {
		name, err := layout.Collection(spec.Name)
		if err != nil {
			return false, err
		}
		st, there := r.Collections[name]
		fields := layout.Fields(spec)
		switch missing := without(fields, st.Fields); {
		case !there:
			st = state{Fields: fields, Layout: 1, Swept: true}
		case len(missing) > 0:
			st = state{Fields: append(st.Fields, missing...), Layout: st.Layout + 1, Since: time.Now()}
		default:
			continue
		}
		r.Collections[name], changed = st, true
	}
	return changed, nil
}

func without(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(some, s) })
}

// swept waits until every document has the keys of a query.
func (s *Store) swept(ctx context.Context, q store.Query) error {
	sweep := s.sweeps[q.Collection]
	if sweep == nil || len(q.Where)+len(q.Order) == 0 {
		return nil
	}
	latest := time.Now().Add(-lag)
	if time.Since(s.states[q.Collection].Since) > overlap {
		latest = time.Time{} // one sweep is enough
	}
	return sweep.wait(ctx, s.background, latest)
}

// together is how many documents one commit of a sweep writes.
const together = 100

// sweep adds missing keys to the documents of a collection: to those written before an index was declared, and to those
// written by instances that do not know the index.
func (s *Store) sweep(ctx context.Context, collection string, st *state) error {
	older := s.client.Collection(collection).Where(layout.Layout, "<", st.Layout).Limit(together)
	for {
		var snaps []*firestore.DocumentSnapshot
		err := again(ctx, func() (err error) {
			snaps, err = older.Documents(ctx).GetAll()
			return err
		})
		if err != nil {
			return err
		}
		if len(snaps) == 0 {
			return s.noteSwept(ctx, collection, st)
		}
		err = s.rekey(ctx, *st, snaps)
		for i := 0; lost(err) && i < len(snaps); i++ { // one of them was written concurrently
			if err = s.rekey(ctx, *st, snaps[i:i+1]); lost(err) {
				err = nil
			}
		}
		if err != nil {
			return err
		}
	}
}

// rekey writes the keys of documents that have not changed since they were read.
func (s *Store) rekey(ctx context.Context, st state, snaps []*firestore.DocumentSnapshot) error {
	//lint:ignore SA1019 the newer BulkWriter is not atomic, and a transaction needs one more call
	batch := s.client.Batch()
	for _, snap := range snaps {
		data, err := snap.DataAt(layout.Data)
		text, _ := data.(string)
		if err != nil {
			return fault.Wrap(err, fault.Internal, "%q was not written by this driver", snap.Ref.Path)
		}
		batch.Update(snap.Ref, []firestore.Update{
			{Path: layout.Layout, Value: st.Layout}, {Path: layout.Keys, Value: st.keys([]byte(text))},
		},
			firestore.LastUpdateTime(snap.UpdateTime))
	}
	_, err := batch.Commit(ctx)
	return err
}

func lost(err error) bool {
	switch status.Code(err) {
	case codes.FailedPrecondition, codes.NotFound, codes.Aborted:
		return true
	}
	return false
}

// noteSwept records a sweep after the overlap, so that later instances need none, unless a newer state exists.
func (s *Store) noteSwept(ctx context.Context, collection string, st *state) error {
	if st.Swept {
		return nil
	}
	st.Swept = true
	return s.change(ctx, func(r *registered) (bool, error) {
		now := r.Collections[collection]
		if now.Layout != st.Layout || now.Swept {
			return false, nil
		}
		now.Swept = true
		r.Collections[collection] = now
		return true, nil
	})
}
