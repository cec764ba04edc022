package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// How long a connection waits for another process's lock.
const patience = 5 * time.Second

// The writer keeps at most 2 MB of pages, a reader less, and neither maps files, so that ten
// functions fit one small process. The log is moved into the file at 4 MB, which
// takes a few milliseconds, and is cut back should it ever have grown beyond 16 MB.
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
	collections               map[string]*statements
}

// statements are those that every collection needs.
type statements struct {
	get, version, put, remove *sqlite.Stmt
}

// connect opens a connection to a file, which it makes when it is missing.
func connect(path string) (*conn, error) {
	db, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: db, collections: map[string]*statements{}}
	if err := c.setUp(); err != nil {
		_ = db.Close() // the reason why it cannot be used is the better error
		return nil, err
	}
	return c, nil
}

func (c *conn) setUp() error {
	c.SetBusyTimeout(patience)
	if err := c.CreateFunction("ebb_key", &keyFunction); err != nil {
		return err
	}
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

// useLog turns the write-ahead log on, or finds it on. SQLite does not always wait for
// the lock that the first change of mode needs, so of those who open a new file at the
// same moment a few have to try again.
func (c *conn) useLog() error {
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
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

// journalMode asks for a mode and returns the one that the file has then.
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

// in are the statements of a collection.
func (c *conn) in(collection string) (*statements, error) {
	if s, ok := c.collections[collection]; ok {
		return s, nil
	}
	s, table := new(statements), quote(collection)
	err := c.prepareAll(map[string]**sqlite.Stmt{
		"SELECT version, data FROM " + table + " WHERE id = ?": &s.get,
		"SELECT version FROM " + table + " WHERE id = ?":       &s.version,
		"DELETE FROM " + table + " WHERE id = ?":               &s.remove,
		"INSERT INTO " + table + " (id, version, data) VALUES (?, ?, ?) " +
			"ON CONFLICT (id) DO UPDATE SET version = excluded.version, data = excluded.data": &s.put,
	})
	if err != nil {
		return nil, err
	}
	c.collections[collection] = s
	return s, nil
}

// snapshot reads documents in one consistent state.
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
	return d, s.get.Reset()
}

// version is that of a stored document; 0 when there is none.
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

func (c *conn) apply(m store.Mutation) error {
	s, err := c.in(m.Collection)
	if err != nil {
		return err
	}
	if m.Data == nil {
		s.remove.BindText(1, m.ID)
		return run(s.remove)
	}
	s.put.BindText(1, m.ID)
	s.put.BindInt64(2, m.Version)
	s.put.BindText(3, string(m.Data))
	return run(s.put)
}

// query runs a query that the schema has checked, for one document more than its limit.
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

// rollback ends a transaction that failed. SQLite may have ended it itself by then.
func (c *conn) rollback() {
	if !c.AutocommitEnabled() {
		_ = sqlitex.ExecuteTransient(c.Conn, "ROLLBACK", nil) // what went wrong before is the better error
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
			panic(fmt.Sprintf("sqlite: cannot bind a %T", a)) // selectSQL makes no others
		}
	}
}

func column(stmt *sqlite.Stmt, i int) json.RawMessage {
	data := make([]byte, stmt.ColumnLen(i))
	stmt.ColumnBytes(i, data)
	return data
}
