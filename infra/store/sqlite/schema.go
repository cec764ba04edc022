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

// layout is the version of the tables' and keys' layout. A file of another version is reconciled again.
const layout = "3"

// reconcile creates the tables and indexes that are missing, and drops indexes that are not declared any more. For a
// file that was last opened with the same schema it needs one read.
func reconcile(c *conn, schema store.Schema) error {
	want, err := fingerprint(schema)
	if err != nil {
		return err
	}
	if got, err := stored(c); err == nil && got == want {
		return nil
	}
	if err := c.CreateFunction("ebb_key", &keyFunction); err != nil {
		return err
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

// stored returns the fingerprint of the file; an error when the file has none.
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
	if err := c.execute("CREATE TABLE IF NOT EXISTS ebb_schema (fingerprint TEXT NOT NULL)"); err != nil {
		return err
	}
	if err := c.execute(marksTable, marksIndex); err != nil {
		return err
	}
	for _, spec := range schema {
		if err := c.createCollection(spec); err != nil {
			return err
		}
	}
	return c.execute("DELETE FROM ebb_schema", "INSERT INTO ebb_schema VALUES ('"+hash+"')")
}

func (c *conn) execute(script ...string) error {
	for _, sql := range script {
		if err := sqlitex.ExecuteTransient(c.Conn, sql, nil); err != nil {
			return err
		}
	}
	return nil
}

// createCollection creates the table of a collection. A table with another layout, because it had other indexes or was
// created by an older version of this package, is copied to a new one.
func (c *conn) createCollection(spec store.Spec) error {
	want := tableSQL(spec)
	have, err := c.tableSQL(spec.Name)
	if err != nil || have == want {
		return err
	}
	table, before := quote(spec.Name), quote("before "+spec.Name)
	var script []string
	if have != "" {
		stale, err := c.indexes(spec.Name)
		if err != nil {
			return err
		}
		for _, name := range stale {
			script = append(script, "DROP INDEX "+quote(name))
		}
		script = append(script, "ALTER TABLE "+table+" RENAME TO "+before)
	}
	script = append(script, want)
	if have != "" {
		columns, keys := "id, version, data", "id, version, data"
		for _, path := range fieldsOf(spec) {
			columns += ", " + columnOf(path)
			keys += ", ebb_key(data, " + literal(path) + ")"
		}
		script = append(script, "INSERT INTO "+table+" ("+columns+") SELECT "+keys+" FROM "+before, "DROP TABLE "+before)
	}
	for _, i := range spec.Indexes {
		var fields []store.Order
		for _, f := range i.Fields {
			fields = append(fields, store.Order{Field: f})
		}
		script = append(
			script, "CREATE INDEX "+quote(indexName(spec, i))+" ON "+table+" ("+strings.Join(sorted(fields), ", ")+")",
		)
	}
	return c.execute(script...)
}

// tableSQL returns the statement that created the table; empty when the table is missing.
func (c *conn) tableSQL(name string) (sql string, err error) {
	found, err := c.texts("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", name)
	return strings.Join(found, ""), err
}

// indexes returns the names of a table's declared indexes, without the index of its primary key.
func (c *conn) indexes(table string) (names []string, err error) {
	return c.texts("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = ?", table)
}

func (c *conn) texts(sql, arg string) (texts []string, err error) {
	err = sqlitex.ExecuteTransient(c.Conn, sql, &sqlitex.ExecOptions{
		Args: []any{arg},
		ResultFunc: func(stmt *sqlite.Stmt) error {
			texts = append(texts, stmt.ColumnText(0))
			return nil
		},
	})
	return texts, err
}

// tableSQL returns the statement that creates the table of a collection. Beside the document the table has a column
// with the key of each indexed field. Small documents are stored in the tree of their ids (WITHOUT ROWID), which needs
// the least work. Large documents are not, because for each comparison with an id SQLite would read the overflow pages
// of a row that is larger than a quarter of a page.
func tableSQL(spec store.Spec) string {
	sql := "CREATE TABLE " + quote(spec.Name) + " (id TEXT NOT NULL PRIMARY KEY, version INTEGER NOT NULL, data TEXT " +
		"NOT NULL"
	for _, path := range fieldsOf(spec) {
		sql += ", " + columnOf(path) + " BLOB NOT NULL"
	}
	// The indexes belong to the layout: a table whose statement differs is created again, with the declared indexes.
	for _, i := range spec.Indexes {
		sql += " /* " + strings.ReplaceAll(indexName(spec, i), "*", "") + " */"
	}
	sql += ")"
	if !spec.Large {
		sql += " WITHOUT ROWID"
	}
	return sql
}

// fieldsOf returns the fields of a collection's indexes, each once.
func fieldsOf(spec store.Spec) (paths []string) {
	for _, i := range spec.Indexes {
		for _, path := range i.Fields {
			if !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

func indexName(spec store.Spec, i store.Index) string {
	return spec.Name + " by " + strings.Join(i.Fields, ", ")
}

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
