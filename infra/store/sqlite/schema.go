package sqlite

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/ebb-dev/ebb/infra/store"
)

// layout changes when tables or keys are laid out differently, so that a file is looked over again.
const layout = "1"

// reconcile makes what the schema declares and the file lacks, and drops indexes that
// are declared no longer. A file that was last opened with the same schema costs one read.
func reconcile(c *conn, schema store.Schema) error {
	want, err := fingerprint(schema)
	if err != nil {
		return err
	}
	if got, err := stored(c); err == nil && got == want {
		return nil
	}
	if err := run(c.beginWrite); err != nil {
		return err
	}
	defer c.rollback()
	if err := c.create(schema, want); err != nil {
		return err
	}
	return run(c.commit)
}

func fingerprint(schema store.Schema) (string, error) {
	text, err := json.Marshal(schema)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append(text, layout...))
	return hex.EncodeToString(sum[:]), nil
}

// stored is the fingerprint that the file has; an error when it has none.
func stored(c *conn) (hash string, err error) {
	err = sqlitex.ExecuteTransient(c.Conn, "SELECT fingerprint FROM ebb_schema", &sqlitex.ExecOptions{
		ResultFunc: func(stmt *sqlite.Stmt) error {
			hash = stmt.ColumnText(0)
			return nil
		},
	})
	return hash, err
}

func (c *conn) create(schema store.Schema, hash string) error {
	script := []string{"CREATE TABLE IF NOT EXISTS ebb_schema (fingerprint TEXT NOT NULL)"}
	for _, spec := range schema {
		stale, err := c.stale(spec)
		if err != nil {
			return err
		}
		for _, name := range stale {
			script = append(script, "DROP INDEX "+quote(name))
		}
		script = append(script, createSQL(spec)...)
	}
	script = append(script, "DELETE FROM ebb_schema", "INSERT INTO ebb_schema VALUES ('"+hash+"')")
	for _, sql := range script {
		if err := sqlitex.ExecuteTransient(c.Conn, sql, nil); err != nil {
			return err
		}
	}
	return nil
}

// stale are the indexes of a collection that it declares no longer.
func (c *conn) stale(spec store.Spec) (names []string, err error) {
	const sql = "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = ?"
	err = sqlitex.ExecuteTransient(c.Conn, sql, &sqlitex.ExecOptions{
		Args: []any{spec.Name},
		ResultFunc: func(stmt *sqlite.Stmt) error {
			name := stmt.ColumnText(0)
			if !slices.ContainsFunc(spec.Indexes, func(i store.Index) bool { return indexName(spec, i) == name }) {
				names = append(names, name)
			}
			return nil
		},
	})
	return names, err
}

func createSQL(spec store.Spec) []string {
	table := quote(spec.Name)
	sql := []string{"CREATE TABLE IF NOT EXISTS " + table +
		" (id TEXT PRIMARY KEY NOT NULL, version INTEGER NOT NULL, data TEXT NOT NULL) WITHOUT ROWID"}
	for _, i := range spec.Indexes {
		var fields []store.Order
		for _, f := range i.Fields {
			fields = append(fields, store.Order{Field: f})
		}
		sql = append(sql, "CREATE INDEX IF NOT EXISTS "+quote(indexName(spec, i))+
			" ON "+table+" ("+strings.Join(sorted(fields), ", ")+")")
	}
	return sql
}

func indexName(spec store.Spec, i store.Index) string {
	return spec.Name + " by " + strings.Join(i.Fields, ", ")
}
