// Package postgres keeps a function's documents in a schema of a PostgreSQL database, on pgx. PostgreSQL 13 or newer.
//
// What is promised: when Commit returns nil, the batch survives this process being killed, the server being killed, and the
// power of the server's machine going, as PostgreSQL writes its log to the disk before it answers (synchronous_commit; a
// server that has it off is refused). That a disk is lost is survived as far as the server has standbys or backups.
// A batch whose Commit has not returned is there whole or not at all. A Commit whose answer was lost, because the
// connection broke or its context ended, answers fault.Unavailable, or the context's error, and has happened or
// has not; only reading tells. Where it is known that nothing happened the driver tries again by itself.
//
// Each function has a role and a schema of its own; docs/postgres.md has the SQL. Every collection is a table:
//
//	id text COLLATE "C" PRIMARY KEY, version bigint, data jsonb, exact bytea
//
// exact holds the document byte by byte when JSONB would lose something (see stored), and is NULL for nearly all.
// Otherwise white space and the order of members are those of JSONB. Declared indexes are on expressions over data, so that
// a row that an older version of the function writes, or a person by hand, is indexed like any other.
//
// No call leaves state in a session: statements name their schema, locks end with their transaction. So PgBouncer in
// transaction mode may stand before the server: from 1.21 on, or with default_query_exec_mode=exec in the URL.
package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/internal/closegate"
)

// Store is an open schema of a database.
type Store struct {
	schema store.Schema
	pool   *pgxpool.Pool
	tables map[string]*table // by collection
	closing   closegate.Gate         // every call goes through it
}

var _ store.Driver = (*Store)(nil)

// Opener opens the database of each function at a URL, as Open does. A URL that cannot be right is refused at once, with
// what is wrong with it and nothing of the URL itself: "names no host; write …".
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

// Open opens the database of a function at postgres://role@host:5432/database, whose password pgx finds in PGPASSWORD, and
// brings its collections and indexes to what the schema declares. It never drops anything that documents are in. When all
// is there, which is so at every start but the first of a new version, that costs one query.
//
// The tables lie in the schema that search_path names, or else in the first that the role finds: that of its own name,
// where nobody has set it otherwise. Connections are made when they are first needed, at most 4, or pool_max_conns.
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
		settings.ConnConfig.RuntimeParams["application_name"] = "ebb " + function // for who looks into pg_stat_activity
	}
	// The pool outlives the call and keeps its context, but not what ends it.
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(ctx), settings)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "postgres: open")
	}
	o := &opening{pool: pool, function: function, schema: schema, namespace: c.schema}
	if err := o.reconcile(ctx); err != nil {
		pool.Close()
		return nil, translate(ctx, err, "open")
	}
	s := &Store{schema: schema, pool: pool, tables: map[string]*table{}}
	for _, spec := range schema {
		s.tables[spec.Name] = newTable(o.namespace, spec.Name)
	}
	return s, nil
}

// Get implements store.Driver. It is one statement, and so sees one state.
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
	for _, d := range found {
		byKey[d.Key] = d
	}
	for i, k := range keys {
		if d, ok := byKey[k]; ok {
			if slices.Contains(keys[:i], k) {
				d.Data = slices.Clone(d.Data) // each is the caller's to change
			}
			docs[i] = d
		}
	}
	return docs, nil
}

// getSQL reads the keys of each collection; empty when there is nothing to read.
func (s *Store) getSQL(keys []store.Key) (sql string, args []any) {
	ids := map[string][]string{}
	for _, k := range keys {
		if storable(k.ID) { // any other has never been stored
			ids[k.Collection] = append(ids[k.Collection], k.ID)
		}
	}
	var parts []string
	for _, spec := range s.schema {
		if wanted := ids[spec.Name]; len(wanted) > 0 {
			args = append(args, wanted)
			parts = append(parts, fmt.Sprintf("SELECT %s, id, version, data, exact FROM %s WHERE id = ANY($%d)",
				literal(spec.Name), s.tables[spec.Name].name, len(args)))
		}
	}
	return strings.Join(parts, " UNION ALL "), args
}

// storable reports whether PostgreSQL's text can hold an id.
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

// read runs a query for collection, id, version, data and exact. One whose connection had been cut, because the
// server was started anew, say, is run again on a new one.
func (s *Store) read(ctx context.Context, doing, sql string, args []any) ([]store.Document, error) {
	docs, err := s.readOnce(ctx, sql, args)
	if lost(err) && ctx.Err() == nil {
		s.pool.Reset() // the others in the pool are cut as well
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

// Close implements store.Driver.
func (s *Store) Close() error {
	return s.closing.Close(func() error {
		s.pool.Close()
		return nil
	})
}
