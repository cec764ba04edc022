package postgres

import (
	"context"
	"fmt"
	"math"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/internal/marks"
)

// The table of marks holds a row for each deleted document, with the largest version that it had and the time of the
// deletion in Unix seconds, until the row is pruned. A row without a collection is the floor of the collection that its
// id names: the largest version of the marks that were pruned. It is never pruned.
//
// An older version of this package does not know the table: it makes no marks, and creates documents at version 1.
const marksName = "ebb_deleted"

// Marks that are made by one handle before old ones are pruned, and marks that are pruned at once.
const (
	pruneEvery = 256
	pruneLimit = 1024
)

func createMarks(namespace string) []string {
	table := quote(namespace, marksName)
	return []string{
		`CREATE TABLE ` + table + ` (collection text COLLATE "C", id text COLLATE "C", version bigint NOT NULL, ` +
			`at bigint NOT NULL, PRIMARY KEY (collection, id))`,
		`CREATE INDEX ebb_deleted_at ON ` + table + ` (at)`,
	}
}

func (t *table) prepareMarks() {
	marks, expect := t.namespace+"."+marksName, t.namespace+".ebb_expect"
	t.above = "SELECT " + expect + "(1 - count(*)) FROM " + marks + " WHERE version >= $2 AND (collection = " +
		t.collection + " AND id = $1 OR collection = '' AND id = " + t.collection + ")"
	mark := "mark AS (INSERT INTO " + marks + " (collection, id, version, at) SELECT " + t.collection +
		", $1, greatest(version, $2), $3 FROM gone WHERE version > 0 ON CONFLICT (collection, id) DO UPDATE SET " +
		"version = greatest(" + marksName + ".version, excluded.version), at = excluded.at)"
	t.markAndErase = "WITH gone AS (DELETE FROM " + t.name + " WHERE id = $1 AND version = $4 RETURNING version), " +
		mark + " SELECT " + expect + "(count(*)) FROM gone"
	t.markAndRemove = "WITH gone AS (DELETE FROM " + t.name + " WHERE id = $1 RETURNING version), " + mark +
		" SELECT count(*) FROM gone"
}

// pruneAfter prunes old marks when a batch that was committed has made enough new ones. It waits for it, but not for
// another instance that does the same. What fails is done after later batches.
func (s *Store) pruneAfter(ctx context.Context, b store.Batch) {
	made := int64(0)
	for _, n := range marks.Made(s.schema, b) {
		made += n
	}
	if made == 0 || s.marked.Add(made) <= pruneEvery {
		return
	}
	s.marked.Store(0)
	// Rows that another instance is pruning, or marking again, are locked. The floors are raised in the transaction that
	// removes the marks, so a creator sees either a mark or the floor.
	sql := fmt.Sprintf(`WITH old AS (SELECT collection, id, version FROM %[1]s WHERE at < $1
	ORDER BY at LIMIT %[2]d FOR UPDATE SKIP LOCKED),
floors AS (INSERT INTO %[1]s AS f (collection, id, version, at)
	SELECT '', collection, max(version), %[3]d FROM old GROUP BY collection ORDER BY collection
	ON CONFLICT (collection, id) DO UPDATE SET version = excluded.version WHERE f.version < excluded.version)
DELETE FROM %[1]s d USING old WHERE d.collection = old.collection AND d.id = old.id`,
		s.marks, pruneLimit, int64(math.MaxInt64))
	_, _ = s.pool.Exec(ctx, sql, s.now().Add(-store.MarkRetention).Unix())
}
