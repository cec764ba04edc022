// Package firestore stores a function's documents in a Firestore database of its own, in native mode.
//
// Durability: when Commit returns nil, the batch is stored in Firestore, in several zones or regions of Google. A call
// that ends with fault.Unavailable or fault.Timeout may have been applied. Reads are strongly consistent.
//
// Firestore's limits are errors of this package: a document of more than 1 MiB, an indexed field of more than 1,500
// bytes, a commit of more than 10 MiB. Firestore sustains about one write per second of one document; faster writers
// get conflicts.
//
// A document that is deleted becomes a mark, unless its collection is SingleUse. An older version of this package does
// not know marks: while its instances still run beside newer ones, they fail with fault.Internal on a document that a
// newer one has deleted.
//
// The database and its composite indexes are created by Terraform, from layout.Indexes.
package firestore

import (
	"cmp"
	"context"
	"slices"
	"sync/atomic"
	"time"

	"cloud.google.com/go/firestore"
	"google.golang.org/grpc"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/lifetime"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/internal/closegate"
	"github.com/ebb-dev/ebb/infra/store/internal/marks"
	"github.com/ebb-dev/ebb/infra/store/internal/seen"
)

// callTimeout is the timeout of a call with its retries, when its context has no earlier deadline.
const callTimeout = 15 * time.Second

// Store is a handle on one database.
type Store struct {
	config Config
	schema store.Schema
	client *firestore.Client
	seen   seen.Cache[sight]
	floors marks.Floors                     // as far as this handle has read them
	now    atomic.Pointer[func() time.Time] // dates marks

	floorsRead floorsRead
	marked     atomic.Int64       // marks made since old ones were looked for
	prepared   task               // registers the schema
	states     map[string]state   // by collection; set when prepared is done
	sweeps     map[string]*task   // of collections with an index that older documents may lack; set when prepared is done
	closing    closegate.Gate     // every call enters it
	background *lifetime.Lifetime // of the tasks that calls wait for; ends with Close
}

var _ store.Driver = (*Store)(nil)

// Config names a database.
type Config struct {
	Project  string
	Database string // empty: the function's name
	Function string // the owner: other functions are refused. Empty: not checked

	options []grpc.DialOption // for tests
}

// Opener returns an opener of databases of a project. An empty database means the one with the function's name.
func Opener(project, database string) store.Opener {
	return func(ctx context.Context, function string, schema store.Schema) (store.Driver, error) {
		s, err := Open(ctx, Config{Project: project, Database: database, Function: function}, schema)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
}

// Open returns a handle without waiting for Firestore, and begins to connect. The first calls wait for that; Ready
// returns its result.
func Open(ctx context.Context, c Config, schema store.Schema) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.Database = cmp.Or(c.Database, c.Function)
	client, err := connect(ctx, c)
	if err != nil {
		return nil, err
	}
	s := &Store{config: c, schema: schema, client: client, background: lifetime.New()}
	s.marked.Store(pruneEvery) // the first deletion looks for old marks
	s.prepared.run = s.register
	s.prepared.begin(ctx, s.background, time.Time{})
	return s, nil
}

// time returns the time that dates marks.
func (s *Store) time() time.Time {
	if now := s.now.Load(); now != nil {
		return (*now)()
	}
	return time.Now()
}

// Ready waits until the database has answered, and returns an error that tells what to do when it cannot be used.
func (s *Store) Ready(ctx context.Context) error {
	done, err := s.closing.Enter(ctx)
	if err != nil {
		return err
	}
	defer done()
	return s.translate(ctx, s.ready(ctx), "open")
}

func (s *Store) ready(ctx context.Context) error {
	return s.prepared.wait(ctx, s.background, time.Time{})
}

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
	docs := make([]store.Document, len(keys))
	if len(keys) == 0 {
		return docs, nil
	}
	refs, err := s.refs(keys)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = s.ready(limited)
	if err == nil {
		err = s.freshFloors(limited)
	}
	if err == nil {
		err = again(limited, func() error { return s.get(limited, keys, refs, docs) })
	}
	if err != nil {
		return nil, s.translate(ctx, err, "get")
	}
	return docs, nil
}

func (s *Store) get(ctx context.Context, keys []store.Key, refs []*firestore.DocumentRef, docs []store.Document) error {
	snaps, err := s.snapshots(ctx, refs)
	if err != nil {
		return err
	}
	for i, snap := range snaps {
		if docs[i], err = s.document(keys[i], snap); err != nil {
			return err
		}
	}
	return nil
}

// snapshots returns documents of one consistent state. Firestore returns that, but after a broken connection the client
// requests the rest separately; then all are read again in a transaction.
func (s *Store) snapshots(
	ctx context.Context, refs []*firestore.DocumentRef,
) (snaps []*firestore.DocumentSnapshot, err error) {
	snaps, err = s.client.GetAll(ctx, refs)
	if err != nil || atOneTime(snaps) {
		return snaps, err
	}
	err = s.client.RunTransaction(ctx, func(_ context.Context, tx *firestore.Transaction) (err error) {
		snaps, err = tx.GetAll(refs)
		return err
	}, firestore.ReadOnly)
	return snaps, err
}

func atOneTime(snaps []*firestore.DocumentSnapshot) bool {
	return !slices.ContainsFunc(
		snaps, func(s *firestore.DocumentSnapshot) bool { return !s.ReadTime.Equal(snaps[0].ReadTime) },
	)
}

// Query implements store.Driver.
func (s *Store) Query(ctx context.Context, q store.Query) (docs []store.Document, more bool, err error) {
	done, err := s.closing.Enter(ctx)
	if err != nil {
		return nil, false, err
	}
	defer done()
	if err := s.schema.Check(q); err != nil {
		return nil, false, err
	}
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err = s.ready(limited); err == nil {
		err = s.swept(limited, q)
	}
	if err == nil {
		err = again(limited, func() (err error) {
			docs, err = s.query(limited, q)
			return err
		})
	}
	if err != nil {
		return nil, false, s.translate(ctx, err, "query "+q.Collection)
	}
	if len(docs) > q.Limit {
		return docs[:q.Limit], true, nil
	}
	return docs, false, nil
}

// Commit implements store.Driver.
func (s *Store) Commit(ctx context.Context, b store.Batch) error {
	done, err := s.closing.Enter(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := s.schema.CheckBatch(b); err != nil {
		return err
	}
	if len(b.Preconditions)+len(b.Mutations) == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = s.ready(limited)
	if err == nil {
		err = s.freshFloors(limited)
	}
	if err == nil {
		err = s.commit(limited, b)
	}
	if err == nil {
		s.pruneAfter(limited, b)
	}
	return s.translate(ctx, err, "commit")
}

// Floor implements store.Floors.
func (s *Store) Floor(collection string) int64 { return s.floors.Of(collection) }

// Close implements store.Driver.
func (s *Store) Close() error {
	return s.closing.Close(func() error {
		s.background.End()
		s.prepared.join()
		for _, t := range s.sweeps {
			t.join()
		}
		if err := s.client.Close(); err != nil {
			return fault.Wrap(err, fault.Internal, "firestore: close")
		}
		return nil
	})
}
