package sqlite

import (
	"math"

	"zombiezen.com/go/sqlite"

	"github.com/ebb-dev/ebb/infra/store"
)

// The table of marks holds a row for each deleted document, with the largest version that it had and the time of the
// deletion in Unix seconds, until the row is pruned. A row without a collection is the floor of the collection that its
// id names: the largest version of the marks that were pruned. It is never pruned.
//
// An older version of this package does not know the table: it makes no marks, and creates documents at version 1.
const (
	marksTable = "CREATE TABLE IF NOT EXISTS ebb_deleted (collection TEXT NOT NULL, id TEXT NOT NULL, version INTEGER " +
		"NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (collection, id)) WITHOUT ROWID"
	marksIndex = "CREATE INDEX IF NOT EXISTS ebb_deleted_at ON ebb_deleted (at)"
)

const (
	anyVersion = -1
	never      = math.MaxInt64

	pruneEvery = 256  // marks that are made before old ones are pruned
	pruneLimit = 1024 // marks that are pruned at once
)

// markSQL returns the statement that makes a mark of a stored document: of the id, the version of the deletion, the
// time, and the version that the document must have, or anyVersion.
func markSQL(collection string) string {
	return "INSERT INTO ebb_deleted (collection, id, version, at) SELECT " + literal(collection) +
		", id, max(version, ?2), ?3 FROM " + quote(collection) + " WHERE id = ?1 AND (?4 < 0 OR version = ?4) " +
		"ON CONFLICT (collection, id) DO UPDATE SET version = max(version, excluded.version), at = excluded.at"
}

// mark makes a mark of a document that is deleted, if it has the version.
func (c *conn) mark(s *statements, m store.Mutation, version int64) error {
	if s.mark == nil {
		return nil
	}
	s.mark.BindText(1, m.ID)
	s.mark.BindInt64(2, m.Version)
	s.mark.BindInt64(3, c.now().Unix())
	s.mark.BindInt64(4, version)
	made, err := c.hit(s.mark)
	if made {
		c.marked++
	}
	return err
}

// lastOf returns Last of a missing document.
func (c *conn) lastOf(k store.Key) (int64, error) {
	s, err := c.in(k.Collection)
	if err != nil {
		return 0, err
	}
	return c.last(k, s)
}

func (c *conn) last(k store.Key, s *statements) (int64, error) {
	if s.singleUse {
		return 0, nil
	}
	if c.markOf == nil {
		const sql = "SELECT version FROM ebb_deleted WHERE collection = ?1 AND id = ?2"
		stmt, err := c.Prepare(sql)
		if err != nil {
			return 0, err
		}
		c.markOf = stmt
	}
	mark, err := c.lookUp(k.Collection, k.ID)
	if err != nil {
		return 0, err
	}
	floor, err := c.lookUp("", k.Collection) // after the mark, which may be pruned in between
	c.floors.Raise(k.Collection, floor)
	return max(mark, floor), err
}

// lookUp returns the version of a row of the table of marks; 0 when there is none.
func (c *conn) lookUp(collection, id string) (version int64, err error) {
	c.markOf.BindText(1, collection)
	c.markOf.BindText(2, id)
	found, err := c.markOf.Step()
	if err != nil {
		return 0, err
	}
	if found {
		version = c.markOf.ColumnInt64(0)
	}
	return version, c.markOf.Reset()
}

// prune removes marks that are older than store.MarkRetention, and raises the floors of their collections in the same
// transaction.
func (c *conn) prune() error {
	c.marked = 0
	old := "SELECT collection, id, version FROM ebb_deleted WHERE at < ?1 ORDER BY at, collection, id LIMIT ?2"
	var raise, remove *sqlite.Stmt
	err := c.prepareAll(map[string]**sqlite.Stmt{
		"INSERT INTO ebb_deleted (collection, id, version, at) SELECT '', collection, max(version), ?3 FROM (" + old +
			") WHERE true GROUP BY collection ON CONFLICT (collection, id) DO UPDATE SET " +
			"version = max(version, excluded.version)": &raise,
		"DELETE FROM ebb_deleted WHERE (collection, id) IN (SELECT collection, id FROM (" + old + "))": &remove,
	})
	if err != nil {
		return err
	}
	if err := run(c.beginWrite); err != nil {
		return err
	}
	defer c.rollback()
	before := c.now().Add(-store.MarkRetention).Unix()
	for _, stmt := range []*sqlite.Stmt{raise, remove} {
		stmt.BindInt64(1, before)
		stmt.BindInt64(2, pruneLimit)
	}
	raise.BindInt64(3, never)
	if err := run(raise); err != nil {
		return err
	}
	if err := run(remove); err != nil {
		return err
	}
	return run(c.commit)
}
