// Package postgres stores a function's documents in a schema of a PostgreSQL database, with pgx. It needs PostgreSQL 13
// or newer.
//
// Durability: when Commit returns nil, the batch survives a kill of this process or of the server and a power failure
// of the server's machine, because PostgreSQL writes its log to the disk before it responds (synchronous_commit; a
// server that has it off is refused). Against the loss of a disk the server needs standbys or backups. A batch whose
// Commit has not returned is applied completely or not at all. When the connection breaks or the context ends before
// the response, Commit returns fault.Unavailable or the context's error, and the batch may have been applied; the
// caller must read to find out. When certainly nothing was applied the driver retries by itself.
//
// Each function has a role and a schema of its own; docs/postgres.md has the SQL. Every collection is a table:
//
//	id text COLLATE "C" PRIMARY KEY, version bigint, data jsonb, exact bytea
//
// The table ebb_deleted holds the marks of deleted documents.
//
// exact holds the exact bytes of a document that JSONB would change (see stored), and is NULL for nearly all. For the
// others white space and the order of members are those of JSONB. Declared indexes are on expressions over data, so
// that rows written by an older version of the function, or by a person, are indexed too.
//
// No call leaves state in a session: statements name their schema, and locks end with their transaction. So PgBouncer
// can be used in transaction mode: from version 1.21 on, or with default_query_exec_mode=exec in the URL.
package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/internal/closegate"
	"github.com/ebb-dev/ebb/infra/store/internal/marks"
)

// Store is an open schema of a database.
type Store struct {
	schema  store.Schema
	pool    *pgxpool.Pool
	tables  map[string]*table // by collection
	marks   string            // the table of marks, quoted
	marked  atomic.Int64      // deletions since old marks were removed
	floors  marks.Floors
	now     func() time.Time // dates marks
	closing closegate.Gate   // every call enters it
}

var _ store.Driver = (*Store)(nil)

// Opener returns an opener that opens the database of each function at a URL, as Open does. The error of an invalid URL
// is a predicate without any part of the URL, such as "has no host; want …".
func Opener(url string) (store.Opener, error) {
	c, err := parse(url)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, function string, schema store.Schema) (store.Driver, error) {
		s, err := c.open(ctx, function, schema)
		if err != nil {
			return nil, err
		}
		return s, nil
	}, nil
}

// Open opens the database of a function at postgres://role@host:5432/database, with the password in PGPASSWORD, and
// creates missing collections and indexes of the schema. It never drops a table or an index. When nothing is missing,
// at every start but the first of a new version, it needs one query.
//
// The tables are in the schema of search_path, or otherwise in the first schema that the role finds: by default the one
// with the role's name. Connections are opened when they are first needed, at most 4, or pool_max_conns.
func Open(ctx context.Context, url, function string, schema store.Schema) (*Store, error) {
	c, err := parse(url)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the URL of the database %v", err)
	}
	return c.open(ctx, function, schema)
}

func (c config) open(ctx context.Context, function string, schema store.Schema) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	settings := c.pool.Copy()
	if _, named := settings.ConnConfig.RuntimeParams["application_name"]; !named {
		settings.ConnConfig.RuntimeParams["application_name"] = "ebb " + function // shown in pg_stat_activity
	}
	// The pool uses the context after the call, so it must not end with the caller's.
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(ctx), settings)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "postgres: open")
	}
	o := &opening{pool: pool, function: function, schema: schema, namespace: c.schema}
	if err := o.reconcile(ctx); err != nil {
		pool.Close()
		return nil, translate(ctx, err, "open")
	}
	s := &Store{schema: schema, pool: pool, tables: map[string]*table{}, now: time.Now}
	s.marks = quote(o.namespace, marksName)
	s.marked.Store(pruneEvery) // the first deletion looks for old marks
	for _, spec := range schema {
		s.tables[spec.Name] = newTable(o.namespace, spec)
	}
	return s, nil
}

// Get implements store.Driver. One statement reads all documents, from one consistent state.
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
	for i, k := range keys {
		docs[i].Key = k
	}
	sql, args := s.getSQL(keys)
	if sql == "" {
		return docs, nil
	}
	found, err := s.read(ctx, "get", sql, args)
	if err != nil {
		return nil, err
	}
	byKey := make(map[store.Key]store.Document, len(found))
	marked, floors := map[store.Key]int64{}, map[string]int64{}
	for _, d := range found {
		switch {
		case d.Data != nil:
			byKey[d.Key] = d
		case d.Collection == "":
			s.floors.Raise(d.ID, d.Version)
			floors[d.ID] = d.Version
		default:
			marked[d.Key] = d.Version
		}
	}
	for i, k := range keys {
		d, ok := byKey[k]
		if !ok {
			docs[i].Last = max(marked[k], floors[k.Collection])
			continue
		}
		if slices.Contains(keys[:i], k) {
			d.Data = slices.Clone(d.Data) // the caller may change each
		}
		docs[i] = d
	}
	return docs, nil
}

// getSQL returns a query for the keys and their marks, which have no data; empty when none can be stored.
func (s *Store) getSQL(keys []store.Key) (sql string, args []any) {
	ids := map[string][]string{}
	for _, k := range keys {
		if storable(k.ID) { // others cannot exist
			ids[k.Collection] = append(ids[k.Collection], k.ID)
		}
	}
	var parts []string
	for _, spec := range s.schema {
		wanted, t := ids[spec.Name], s.tables[spec.Name]
		if len(wanted) == 0 {
			continue
		}
		args = append(args, wanted)
		parts = append(parts, fmt.Sprintf("SELECT %s, id, version, data, exact FROM %s WHERE id = ANY($%d)",
			t.collection, t.name, len(args)))
		if !t.singleUse {
			parts = append(parts, fmt.Sprintf("SELECT collection, id, version, NULL, NULL FROM %s WHERE "+
				"collection = %s AND id = ANY($%d) OR collection = '' AND id = %[2]s", s.marks, t.collection, len(args)))
		}
	}
	return strings.Join(parts, " UNION ALL "), args
}

// storable reports whether PostgreSQL's type text can store an id.
func storable(id string) bool { return utf8.ValidString(id) && strings.IndexByte(id, 0) < 0 }

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
	sql, args := s.tables[q.Collection].selectSQL(q)
	docs, err = s.read(ctx, "query", sql, args)
	if err != nil {
		return nil, false, err
	}
	if len(docs) > q.Limit {
		return docs[:q.Limit], true, nil
	}
	return docs, false, nil
}

// read runs a query for collection, id, version, data and exact. When a pooled connection was broken, for example by a
// restart of the server, the query is run again on a new one.
func (s *Store) read(ctx context.Context, doing, sql string, args []any) ([]store.Document, error) {
	docs, err := s.readOnce(ctx, sql, args)
	if broken(err) && ctx.Err() == nil {
		s.pool.Reset() // the other connections of the pool are broken too
		docs, err = s.readOnce(ctx, sql, args)
	}
	return docs, translate(ctx, err, doing)
}

func (s *Store) readOnce(ctx context.Context, sql string, args []any) ([]store.Document, error) {
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (store.Document, error) {
		var d store.Document
		var data, exact []byte
		err := row.Scan(&d.Collection, &d.ID, &d.Version, &data, &exact)
		if d.Data = data; exact != nil {
			d.Data = exact
		}
		return d, err
	})
}

// Floor implements store.Floors.
func (s *Store) Floor(collection string) int64 { return s.floors.Of(collection) }

// Close implements store.Driver.
func (s *Store) Close() error {
	return s.closing.Close(func() error {
		s.pool.Close()
		return nil
	})
}
