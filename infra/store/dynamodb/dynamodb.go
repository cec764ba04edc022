// Package dynamodb stores a function's documents in a DynamoDB table of its own.
//
// Durability: when Commit returns nil, the batch is stored in DynamoDB, in several zones of a region. A call that ends
// with fault.Unavailable or fault.Timeout may have been applied; the SDK repeats a commit with its client request
// token, so that it is applied once.
//
// A commit is one TransactWriteItems. DynamoDB's limits are errors of this package: 100 actions, 4 MB, 400 KB an item.
// A document is one action, and one more for each index row that it gets or loses: each beginning of a declared index
// is an index of its own. A deletion that leaves a mark has one more, and so has a precondition on a document that is
// not written.
//
// Reads are strongly consistent. Several documents are read in one transaction, up to 100; more are read until two
// reads agree. A query reads an index, then the documents, then the index again, until the index has no new rows. Its
// documents all existed at one moment. It may lack another one of that moment whose row has come and gone while it
// read, or where rows come faster than it reads.
//
// There is no scan. Only when a version of the function declares an index that the one before did not, are the
// collection's documents read once, to write the rows.
//
// All documents of a collection, and all rows of an index, have one partition key. DynamoDB splits such a partition by
// the sort key under load, but a new collection sustains about 500 commits of small documents per second.
//
// The table has the keys p and s, both strings, and the TTL attribute ttl; Terraform creates it.
package dynamodb

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/awsconfig"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/internal/closegate"
	"github.com/ebb-dev/ebb/infra/store/internal/marks"
	"github.com/ebb-dev/ebb/infra/store/internal/seen"
)

// callTimeout is the timeout of a call with its retries, when its context has no earlier deadline.
const callTimeout = 15 * time.Second

// Store is a handle on one table.
type Store struct {
	config Config
	schema store.Schema
	calls  calls
	seen   seen.Cache[sight]
	floors marks.Floors                     // as far as this handle has read them
	now    atomic.Pointer[func() time.Time] // dates marks
	marked atomic.Int64                     // marks made since old ones were looked for

	states   atomic.Pointer[states] // the register, as this handle has read it last
	reading  chan struct{}          // has room for one: the call that reads the register
	sweeping chan struct{}          // has room for one: the call that sweeps
	closing  closegate.Gate         // every call enters it
}

var _ store.Driver = (*Store)(nil)

// Config names a table.
type Config struct {
	Region   string // empty: AWS_REGION
	Table    string // empty: the function's name
	Function string // the owner: other functions are refused. Empty: not checked

	transport http.RoundTripper // for tests
}

// Opener returns an opener of tables of a region. An empty table means the one with the function's name.
func Opener(region, table string) store.Opener {
	return func(ctx context.Context, function string, schema store.Schema) (store.Driver, error) {
		s, err := Open(ctx, Config{Region: region, Table: table, Function: function}, schema)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
}

// Open returns a handle once the table has answered.
func Open(ctx context.Context, c Config, schema store.Schema) (*Store, error) {
	if c.Table == "" {
		c.Table = c.Function
	}
	if c.Table == "" {
		return nil, fault.New(fault.Internal, "a DynamoDB table needs a name")
	}
	settings, err := awsconfig.Load(ctx, c.Region)
	if err != nil {
		return nil, err
	}
	client := dynamodb.NewFromConfig(settings, func(o *dynamodb.Options) {
		o.DisableValidateResponseChecksum = true // TLS does it, and the SDK warns of each response that it need not read
		if c.transport != nil {
			o.HTTPClient = &http.Client{Transport: c.transport}
		}
	})
	s := &Store{
		config: c, schema: schema, calls: callsOf(client),
		reading: make(chan struct{}, 1), sweeping: make(chan struct{}, 1),
	}
	s.marked.Store(pruneEvery) // the first deletion looks for old marks
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.register(limited); err != nil {
		return nil, s.translate(ctx, err, "open")
	}
	return s, nil
}

// time returns the time that dates marks.
func (s *Store) time() time.Time {
	if now := s.now.Load(); now != nil {
		return (*now)()
	}
	return time.Now()
}

// Get implements store.Driver.
func (s *Store) Get(ctx context.Context, keys ...store.Key) (docs []store.Document, err error) {
	done, err := s.closing.Enter(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := s.schema.CheckKeys(keys...); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var items map[store.Key]item
	if err = s.fresh(limited, false); err == nil {
		items, err = s.read(limited, keys)
	}
	if err != nil {
		return nil, s.translate(ctx, err, "get")
	}
	docs = make([]store.Document, len(keys))
	for i, k := range keys {
		docs[i] = s.document(k, items[k])
	}
	return docs, nil
}

// document returns the document of an item.
func (s *Store) document(k store.Key, it item) store.Document {
	if it.version == 0 {
		return store.Document{Key: k, Last: max(it.last, s.floors.Of(k.Collection))}
	}
	return store.Document{Key: k, Version: it.version, Data: []byte(it.data)}
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
	if err = s.fresh(limited, false); err == nil {
		err = s.swept(limited, q)
	}
	if err == nil {
		docs, err = s.query(limited, q)
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
	if err = s.fresh(limited, false); err == nil {
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
func (s *Store) Close() error { return s.closing.Close(func() error { return nil }) }
