// Package memory stores a function's documents in the memory of the process. It is a complete driver, for tests and
// experiments, and passes the same suite as the databases. The data lives as long as its Opener: also when a handle is
// closed and the function is started again, and never longer than the process.
package memory

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/internal/closegate"
)

// Option changes how a Store behaves.
type Option func(*Store)

// Twice makes store.Update run each function once more before the run that counts, so that tests show a handler with
// effects other than its transaction.
func Twice() Option { return func(s *Store) { s.twice = true } }

// Clock sets the clock that dates the marks of deleted documents; without it the time is the machine's.
func Clock(now func() time.Time) Option { return func(s *Store) { s.now = now } }

// Store is a handle on one database.
type Store struct {
	schema store.Schema
	twice  bool
	now    func() time.Time

	db      *database
	marked  int            // marks made since old ones were removed, guarded by db.mu
	closing closegate.Gate // every call enters it
}

var _ store.Driver = (*Store)(nil)

// database is shared by the handles of one function.
type database struct {
	mu          sync.RWMutex
	collections map[string]map[string]store.Document
	ids         map[string][]string // by collection, sorted; missing: must be sorted again
	marks       map[store.Key]mark  // of deleted documents
	floors      map[string]int64    // by collection: the largest version of the marks that were removed
}

// mark holds the largest version that a deleted document had.
type mark struct {
	version int64
	at      time.Time
}

// pruneEvery is the number of new marks after which old ones are removed.
const pruneEvery = 256

// New returns a Store with an empty database of its own.
func New(schema store.Schema, opts ...Option) *Store { return open(newDatabase(), schema, opts) }

// Opener returns an opener with one database per function name. A function that is stopped and started again finds its
// data.
func Opener(opts ...Option) store.Opener {
	var mu sync.Mutex
	databases := map[string]*database{}
	return func(ctx context.Context, function string, schema store.Schema) (store.Driver, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		if databases[function] == nil {
			databases[function] = newDatabase()
		}
		return open(databases[function], schema, opts), nil
	}
}

func newDatabase() *database {
	return &database{
		collections: map[string]map[string]store.Document{}, ids: map[string][]string{},
		marks: map[store.Key]mark{}, floors: map[string]int64{},
	}
}

func open(db *database, schema store.Schema, opts []Option) *Store {
	s := &Store{schema: schema, db: db, now: time.Now, marked: pruneEvery} // the first mark looks for old ones
	for _, o := range opts {
		o(s)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	for _, spec := range schema {
		if db.collections[spec.Name] == nil {
			db.collections[spec.Name] = map[string]store.Document{}
		}
	}
	return s
}

// RunTwice reports whether store.Update runs each function twice; see Twice.
func (s *Store) RunTwice() bool { return s.twice }

// Get implements store.Driver.
func (s *Store) Get(ctx context.Context, keys ...store.Key) ([]store.Document, error) {
	done, err := s.closing.Enter(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := s.schema.CheckKeys(keys...); err != nil {
		return nil, err
	}

	s.db.mu.RLock()
	defer s.db.mu.RUnlock()
	docs := make([]store.Document, len(keys))
	for i, k := range keys {
		docs[i] = s.db.get(k)
	}
	return docs, nil
}

// Query implements store.Driver. It reads every document of the collection.
func (s *Store) Query(ctx context.Context, q store.Query) (docs []store.Document, more bool, err error) {
	done, err := s.closing.Enter(ctx)
	if err != nil {
		return nil, false, err
	}
	defer done()
	if err := s.schema.Check(q); err != nil {
		return nil, false, err
	}

	if len(q.Where)+len(q.Order) == 0 {
		docs, more = s.db.scan(q)
		return docs, more, nil
	}
	s.db.mu.RLock()
	defer s.db.mu.RUnlock()
	hits := s.db.find(q)
	if len(hits) > q.Limit {
		hits, more = hits[:q.Limit], true
	}
	docs = make([]store.Document, len(hits))
	for i, h := range hits {
		docs[i] = copied(h.doc)
	}
	return docs, more, nil
}

// Commit implements store.Driver. A batch is lost when the process ends.
func (s *Store) Commit(ctx context.Context, b store.Batch) error {
	done, err := s.closing.Enter(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := s.schema.CheckBatch(b); err != nil {
		return err
	}

	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	for _, p := range b.Preconditions {
		if now := s.db.collections[p.Collection][p.ID].Version; now != p.Version {
			return fault.New(fault.Conflict, "%s %q has changed in the meantime", p.Collection, p.ID)
		}
	}
	for _, m := range b.Mutations {
		if m.Data != nil && s.db.used(m) && slices.Contains(b.Preconditions, store.Precondition{Key: m.Key}) {
			return fault.New(fault.Conflict, "%s %q was created and deleted in the meantime", m.Collection, m.ID)
		}
	}
	for _, m := range b.Mutations {
		if m.Data == nil {
			s.mark(m)
		}
		s.db.apply(m)
	}
	if s.marked > pruneEvery {
		s.marked = 0
		s.db.prune(s.now().Add(-store.MarkRetention))
	}
	return nil
}

// mark makes a mark of a document that is deleted.
func (s *Store) mark(m store.Mutation) {
	d, there := s.db.collections[m.Collection][m.ID]
	if spec, _ := s.schema.Spec(m.Collection); !there || spec.SingleUse {
		return
	}
	s.db.marks[m.Key] = mark{max(d.Version, m.Version, s.db.marks[m.Key].version), s.now()}
	s.marked++
}

// used reports whether the version of a mutation may have been used for its document, if that is missing.
func (db *database) used(m store.Mutation) bool { return m.Version <= db.last(m.Key) }

func (db *database) last(k store.Key) int64 { return max(db.marks[k].version, db.floors[k.Collection]) }

// prune removes the marks that are older than a time.
func (db *database) prune(before time.Time) {
	for k, m := range db.marks {
		if m.at.Before(before) {
			db.floors[k.Collection] = max(db.floors[k.Collection], m.version)
			delete(db.marks, k)
		}
	}
}

// Floor implements store.Floors.
func (s *Store) Floor(collection string) int64 {
	s.db.mu.RLock()
	defer s.db.mu.RUnlock()
	return s.db.floors[collection]
}

// Close implements store.Driver. The data stays for the next handle of the same Opener.
func (s *Store) Close() error {
	return s.closing.Close(func() error { return nil })
}

func (db *database) get(k store.Key) store.Document {
	if d, ok := db.collections[k.Collection][k.ID]; ok {
		return copied(d)
	}
	return store.Document{Key: k, Last: db.last(k)}
}

func (db *database) apply(m store.Mutation) {
	if _, there := db.collections[m.Collection][m.ID]; there == (m.Data == nil) {
		delete(db.ids, m.Collection)
	}
	if m.Data == nil {
		delete(db.collections[m.Collection], m.ID)
		return
	}
	db.collections[m.Collection][m.ID] = copied(m.Document())
}

// scan runs a query without filters and order: a range of ids.
func (db *database) scan(q store.Query) (docs []store.Document, more bool) {
	db.mu.Lock()
	defer db.mu.Unlock()
	ids, known := db.ids[q.Collection]
	if !known {
		ids = slices.Sorted(maps.Keys(db.collections[q.Collection]))
		db.ids[q.Collection] = ids
	}
	if q.After != nil {
		at, found := slices.BinarySearch(ids, q.After.ID)
		if found {
			at++
		}
		ids = ids[at:]
	}
	if len(ids) > q.Limit {
		ids, more = ids[:q.Limit], true
	}
	docs = make([]store.Document, len(ids))
	for i, id := range ids {
		docs[i] = copied(db.collections[q.Collection][id])
	}
	return docs, more
}

// hit is a document that a query found, with its position in the order.
type hit struct {
	doc store.Document
	at  store.Position
}

func (db *database) find(q store.Query) []hit {
	var hits []hit
	for _, d := range db.collections[q.Collection] {
		if !store.Match(d.Data, q.Where) {
			continue
		}
		at := store.PositionOf(d, q.Order)
		if q.After == nil || store.Compare(at, *q.After, q.Order) > 0 {
			hits = append(hits, hit{d, at})
		}
	}
	slices.SortFunc(hits, func(a, b hit) int { return store.Compare(a.at, b.at, q.Order) })
	return hits
}

func copied(d store.Document) store.Document {
	d.Data = slices.Clone(d.Data)
	return d
}
