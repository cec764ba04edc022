package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/internal/field"
	"github.com/ebb-dev/ebb/infra/store/internal/marks"
)

// busyWait is how long a connection waits for another process's lock.
const busyWait = 5 * time.Second

// The writer caches at most 2 MB of pages, a reader less, and neither maps files, so that ten functions fit one small
// process. The log is moved into the file at 4 MB, which takes a few milliseconds, and is truncated when it has grown
// beyond 16 MB.
var pragmas = []string{
	"PRAGMA synchronous = FULL",
	"PRAGMA cache_size = -2000",
	"PRAGMA mmap_size = 0",
	"PRAGMA wal_autocheckpoint = 1000",
	"PRAGMA journal_size_limit = 16777216",
	"PRAGMA temp_store = MEMORY",
}

// conn is one connection and its prepared statements. One goroutine uses it at a time.
type conn struct {
	*sqlite.Conn
	begin, beginWrite, commit *sqlite.Stmt
	markOf                    *sqlite.Stmt // nil: not prepared yet
	schema                    store.Schema
	collections               map[string]*statements
	floors                    *marks.Floors
	now                       func() time.Time // of the writer: dates marks
	marked                    int              // marks made since old ones were removed
}

// statements holds the prepared statements of a collection. The last three write only when the version is the expected
// one; keep does not write the index keys, and writes only when these are unchanged.
type statements struct {
	fields                      []string // that have a key column
	singleUse                   bool
	get, version, put, remove   *sqlite.Stmt
	insert, update, keep, erase *sqlite.Stmt
	mark                        *sqlite.Stmt // nil: no marks of deleted documents are kept
}

// connect opens a connection to a file, which it creates when it is missing.
func connect(path string, schema store.Schema, floors *marks.Floors) (*conn, error) {
	tuneMemory()
	db, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: db, schema: schema, collections: map[string]*statements{}, floors: floors}
	if err := c.setUp(); err != nil {
		_ = db.Close() // the first error is the cause
		return nil, err
	}
	return c, nil
}

func (c *conn) setUp() error {
	c.SetBusyTimeout(busyWait)
	if err := c.useLog(); err != nil {
		return err
	}
	for _, sql := range pragmas {
		if err := sqlitex.ExecuteTransient(c.Conn, sql, nil); err != nil {
			return err
		}
	}
	return c.prepareAll(map[string]**sqlite.Stmt{
		"BEGIN": &c.begin, "BEGIN IMMEDIATE": &c.beginWrite, "COMMIT": &c.commit,
	})
}

// useLog turns the write-ahead log on. SQLite does not always wait for the lock that the first change of the mode
// needs, so when several connections open a new file concurrently some must try again.
func (c *conn) useLog() error {
	for deadline := time.Now().Add(busyWait); ; time.Sleep(5 * time.Millisecond) {
		mode, err := c.journalMode("WAL")
		switch {
		case sqlite.ErrCode(err).ToPrimary() == sqlite.ResultBusy && time.Now().Before(deadline):
			continue
		case err == nil && mode != "wal":
			return fault.New(fault.Unavailable, "the database cannot use a write-ahead log; put its file on a local disk")
		}
		return err
	}
}

// journalMode sets a mode and returns the mode that the file then has.
func (c *conn) journalMode(want string) (got string, err error) {
	err = sqlitex.ExecuteTransient(c.Conn, "PRAGMA journal_mode = "+want, &sqlitex.ExecOptions{
		ResultFunc: func(stmt *sqlite.Stmt) error {
			got = stmt.ColumnText(0)
			return nil
		},
	})
	return got, err
}

func (c *conn) prepareAll(queries map[string]**sqlite.Stmt) (err error) {
	for sql, into := range queries {
		if *into, err = c.Prepare(sql); err != nil {
			return err
		}
	}
	return nil
}

// in returns the statements of a collection.
func (c *conn) in(collection string) (*statements, error) {
	if s, ok := c.collections[collection]; ok {
		return s, nil
	}
	spec, _ := c.schema.Spec(collection) // every call has checked that it is declared
	s, table := &statements{fields: fieldsOf(spec), singleUse: spec.SingleUse}, quote(collection)
	var columns, marks, sets, same string
	for _, path := range s.fields {
		column := columnOf(path)
		columns, marks = columns+", "+column, marks+", ?"
		sets, same = sets+", "+column+" = ?", same+" AND "+column+" = ?"
	}
	insert := "INSERT INTO " + table + " (version, data" + columns + ", id) VALUES (?, ?" + marks + ", ?) ON CONFLICT " +
		"(id) DO "
	err := c.prepareAll(map[string]**sqlite.Stmt{
		"SELECT version, data FROM " + table + " WHERE id = ?":   &s.get,
		"SELECT version FROM " + table + " WHERE id = ?":         &s.version,
		"DELETE FROM " + table + " WHERE id = ?":                 &s.remove,
		"DELETE FROM " + table + " WHERE id = ? AND version = ?": &s.erase,
		insert + "NOTHING": &s.insert,
		insert + "UPDATE SET version = excluded.version, data = excluded.data" + excluded(s.fields): &s.put,
		"UPDATE " + table + " SET version = ?, data = ?" + sets + " WHERE id = ? AND version = ?":   &s.update,
		"UPDATE " + table + " SET version = ?, data = ? WHERE id = ? AND version = ?" + same:        &s.keep,
	})
	if err == nil && !s.singleUse {
		s.mark, err = c.Prepare(markSQL(collection))
	}
	if err != nil {
		return nil, err
	}
	c.collections[collection] = s
	return s, nil
}

func excluded(fields []string) (sets string) {
	for _, path := range fields {
		sets += ", " + columnOf(path) + " = excluded." + columnOf(path)
	}
	return sets
}

// snapshot returns documents of one consistent state.
func (c *conn) snapshot(keys []store.Key) (docs []store.Document, err error) {
	if len(keys) > 1 {
		if err := run(c.begin); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, run(c.commit)) }()
	}
	docs = make([]store.Document, len(keys))
	for i, k := range keys {
		if docs[i], err = c.get(k); err != nil {
			return nil, err
		}
	}
	return docs, nil
}

func (c *conn) get(k store.Key) (store.Document, error) {
	s, err := c.in(k.Collection)
	if err != nil {
		return store.Document{}, err
	}
	d := store.Document{Key: k}
	s.get.BindText(1, k.ID)
	found, err := s.get.Step()
	if err != nil {
		return d, err
	}
	if found {
		d.Version, d.Data = s.get.ColumnInt64(0), column(s.get, 1)
	}
	if err := s.get.Reset(); err != nil || found {
		return d, err
	}
	d.Last, err = c.last(k, s)
	return d, err
}

// version returns the version of a stored document; 0 when it is missing.
func (c *conn) version(k store.Key) (v int64, err error) {
	s, err := c.in(k.Collection)
	if err != nil {
		return 0, err
	}
	s.version.BindText(1, k.ID)
	found, err := s.version.Step()
	if err != nil {
		return 0, err
	}
	if found {
		v = s.version.ColumnInt64(0)
	}
	return v, s.version.Reset()
}

// apply writes or removes a document, whatever its stored version.
func (c *conn) apply(m store.Mutation) error {
	s, err := c.in(m.Collection)
	if err != nil {
		return err
	}
	if m.Data == nil {
		if err := c.mark(s, m, anyVersion); err != nil {
			return err
		}
		s.remove.BindText(1, m.ID)
		return run(s.remove)
	}
	s.bind(s.put, m, s.keys(m.Data)).BindText(3+len(s.fields), m.ID)
	return run(s.put)
}

// swap does the same when the stored document has the version (0: when it is missing, and the mutation's version is
// above Last), and reports whether it had.
func (c *conn) swap(m store.Mutation, version int64) (was bool, err error) {
	s, err := c.in(m.Collection)
	switch {
	case err != nil:
		return false, err
	case m.Data == nil && version == 0:
		now, err := c.version(m.Key)
		return now == 0, err
	case m.Data == nil:
		if err := c.mark(s, m, version); err != nil {
			return false, err
		}
		s.erase.BindText(1, m.ID)
		s.erase.BindInt64(2, version)
		return c.hit(s.erase)
	case version == 0:
		if last, err := c.last(m.Key, s); err != nil || last >= m.Version {
			return false, err
		}
		s.bind(s.insert, m, s.keys(m.Data)).BindText(3+len(s.fields), m.ID)
		return c.hit(s.insert)
	}
	keys := s.keys(m.Data)
	s.bind(s.keep, m, nil).BindText(3, m.ID)
	s.keep.BindInt64(4, version)
	for i, k := range keys {
		s.keep.BindBytes(5+i, k)
	}
	if was, err = c.hit(s.keep); was || err != nil || len(keys) == 0 {
		return was, err
	}
	s.bind(s.update, m, keys).BindText(3+len(keys), m.ID)
	s.update.BindInt64(4+len(keys), version)
	return c.hit(s.update)
}

// keys returns the index keys of a document.
func (s *statements) keys(data []byte) [][]byte {
	if len(s.fields) == 0 {
		return nil
	}
	keys := make([][]byte, len(s.fields))
	for i, path := range s.fields {
		keys[i] = key(field.Value(data, path))
	}
	return keys
}

// bind sets the first parameters of a statement: version, data and keys.
func (s *statements) bind(stmt *sqlite.Stmt, m store.Mutation, keys [][]byte) *sqlite.Stmt {
	stmt.BindInt64(1, m.Version)
	stmt.BindText(2, unsafe.String(unsafe.SliceData(m.Data), len(m.Data))) // BindText copies it
	for i, k := range keys {
		stmt.BindBytes(3+i, k)
	}
	return stmt
}

// hit runs a statement and reports whether it changed a row.
func (c *conn) hit(stmt *sqlite.Stmt) (bool, error) {
	err := run(stmt)
	return err == nil && c.Changes() > 0, err
}

// query runs a query that the schema has checked, with one document more than its limit.
func (c *conn) query(ctx context.Context, q store.Query) ([]store.Document, error) {
	sql, args := selectSQL(q)
	if done := ctx.Done(); done != nil {
		c.SetInterrupt(done)
		defer c.SetInterrupt(nil)
	}
	stmt, err := c.Prepare(sql)
	if err != nil {
		return nil, err
	}
	bind(stmt, args)
	var docs []store.Document
	for {
		found, err := stmt.Step()
		if err != nil {
			return nil, err
		}
		if !found {
			return docs, stmt.Reset()
		}
		docs = append(docs, store.Document{
			Key:     store.Key{Collection: q.Collection, ID: stmt.ColumnText(0)},
			Version: stmt.ColumnInt64(1),
			Data:    column(stmt, 2),
		})
	}
}

// rollback ends a failed transaction. SQLite may have ended it already.
func (c *conn) rollback() {
	if !c.AutocommitEnabled() {
		_ = sqlitex.ExecuteTransient(c.Conn, "ROLLBACK", nil) // the error before is the cause
	}
}

func (c *conn) close() error {
	c.rollback()
	return c.Close()
}

func run(stmt *sqlite.Stmt) error {
	if _, err := stmt.Step(); err != nil {
		return err
	}
	return stmt.Reset()
}

func bind(stmt *sqlite.Stmt, args []any) {
	for i, a := range args {
		switch a := a.(type) {
		case string:
			stmt.BindText(i+1, a)
		case []byte:
			stmt.BindBytes(i+1, a)
		case int:
			stmt.BindInt64(i+1, int64(a))
		default:
			panic(fmt.Sprintf("sqlite: cannot bind a %T", a)) // selectSQL returns no others
		}
	}
}

func column(stmt *sqlite.Stmt, i int) json.RawMessage {
	data := make([]byte, stmt.ColumnLen(i))
	stmt.ColumnBytes(i, data)
	return data
}
