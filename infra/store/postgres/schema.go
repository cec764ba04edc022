package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// opening creates what a function declares and the database's schema lacks. It never drops anything: an index that is
// not declared any more may be used by an instance of an older version, which runs during a rollout and would create
// the index again.
type opening struct {
	pool      *pgxpool.Pool
	function  string
	schema    store.Schema
	namespace string // the schema of the database; empty: the role's default
}

// work lists the statements to run: first a script that creates tables and functions, then one statement after the
// other.
type work struct{ first, then []string }

func (w work) none() bool { return len(w.first)+len(w.then) == 0 }

// reconcile creates what is missing. Of several instances one does that; the others check again until nothing is
// missing.
func (o *opening) reconcile(ctx context.Context) error {
	todo, err := o.look(ctx)
	if err != nil || todo.none() {
		return err
	}
	// The lock is held by a transaction on a connection of its own: it ends when this process ends, and works through
	// PgBouncer. No instance waits for it inside a statement, because a waiting statement has a snapshot, and CREATE INDEX
	// CONCURRENTLY, which runs under the lock, waits for all older snapshots.
	c, err := pgx.ConnectConfig(ctx, o.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer o.hangUp(ctx, c)
	for {
		locked, err := o.tryLock(ctx, c)
		if err != nil {
			return err
		}
		if todo, err = o.look(ctx); err != nil || todo.none() {
			return err
		}
		if locked {
			return o.build(ctx, todo)
		}
		select {
		case <-ctx.Done():
			return fault.Wrap(
				ctx.Err(), fault.KindOf(ctx.Err()), "another instance is still creating tables or indexes; wait for it",
			)
		case <-time.After(time.Duration(10+rand.IntN(30)) * time.Millisecond):
		}
	}
}

// hangUp releases the lock by closing its connection.
func (o *opening) hangUp(ctx context.Context, c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = c.Close(ctx) // the connection is not used after an error either
}

func (o *opening) tryLock(ctx context.Context, c *pgx.Conn) (locked bool, err error) {
	if _, err := c.Exec(ctx, "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0"); err != nil {
		return false, err
	}
	// In the simple protocol a statement ends with its response. In the extended protocol its portal and snapshot would
	// stay.
	sql := "SELECT pg_try_advisory_xact_lock(hashtextextended(" + literal("ebb "+o.namespace) + ", 0))"
	err = c.QueryRow(ctx, sql, pgx.QueryExecModeSimpleProtocol).Scan(&locked)
	if err != nil || locked {
		return locked, err
	}
	_, err = c.Exec(ctx, "ROLLBACK")
	return false, err
}

func (o *opening) build(ctx context.Context, todo work) error {
	if len(todo.first) > 0 { // one message of several statements is one transaction
		if _, err := o.pool.Exec(ctx, strings.Join(todo.first, ";\n")); err != nil {
			return o.explain(err)
		}
	}
	for _, sql := range todo.then {
		if _, err := o.pool.Exec(ctx, sql); err != nil {
			return o.explain(err)
		}
	}
	return nil
}

// explain returns an error that tells what to do when the role has no right to create a table.
func (o *opening) explain(err error) error {
	var said interface{ SQLState() string }
	if errors.As(err, &said) && said.SQLState() == "42501" {
		return fault.Wrap(err, fault.Unavailable, "the role may not create tables in the schema %[1]q; run ALTER SCHEMA "+
			"%[2]s OWNER TO %[3]s",
			o.namespace, quote(o.namespace), quote(o.pool.Config().ConnConfig.User))
	}
	return err
}

// inventory is a query for those of the given names that are missing in the schema. It looks names up and reads no
// catalogue table, because planning that takes longer on a new connection than everything else.
const inventory = `SELECT coalesce(name, ''), oid IS NOT NULL, coalesce(has_schema_privilege(oid, 'USAGE'), false),
	current_setting('server_encoding'), current_setting('synchronous_commit'),
	ARRAY(SELECT x FROM unnest($2::text[]) x WHERE
		CASE WHEN has_schema_privilege(oid, 'USAGE') THEN to_regclass(quote_ident(name) || '.' || quote_ident(x)) IS NULL END)
FROM (SELECT name, to_regnamespace(quote_ident(name))::oid AS oid FROM
	(SELECT coalesce(nullif($1::text, ''), current_schema()::text) AS name) named) found`

// look returns the work for what is missing. It needs one query, which is not prepared because it is used once.
func (o *opening) look(ctx context.Context) (work, error) {
	names, err := o.names()
	if err != nil {
		return work{}, err
	}
	var namespace, encoding, durability string
	var exists, usable bool
	var missing []string
	err = o.pool.QueryRow(ctx, inventory, pgx.QueryExecModeExec, o.namespace, names).
		Scan(&namespace, &exists, &usable, &encoding, &durability, &missing)
	if err != nil {
		return work{}, err
	}
	role := quote(o.pool.Config().ConnConfig.User)
	switch {
	case namespace == "":
		return work{}, fault.New(
			fault.Unavailable,
			"the role has no schema; run CREATE SCHEMA AUTHORIZATION %s, or name one with search_path in the store's URL", role,
		)
	case !exists:
		return work{}, fault.New(
			fault.Unavailable, "the schema %q does not exist; run CREATE SCHEMA %s AUTHORIZATION %s", namespace,
			quote(namespace), role,
		)
	case !usable:
		return work{}, fault.New(
			fault.Unavailable, "the role may not use the schema %q; run ALTER SCHEMA %s OWNER TO %s", namespace,
			quote(namespace), role,
		)
	case encoding != "UTF8":
		return work{}, fault.New(
			fault.Unavailable, "the database keeps text as %s; create one with ENCODING 'UTF8'", encoding,
		)
	case durability == "off":
		return work{}, fault.New(
			fault.Unavailable,
			"the database acknowledges commits before they are on its disk; run ALTER ROLE %s SET synchronous_commit = on", role,
		)
	}
	o.namespace = namespace
	return o.compare(missing)
}

// names returns the names of all tables, primary keys and indexes.
func (o *opening) names() (names []string, err error) {
	for _, spec := range o.schema {
		if len(spec.Name) > nameLimit || spec.Name == "" || !storable(spec.Name) {
			return nil, fault.New(fault.Internal, "collection name %q cannot name a table", spec.Name)
		}
		names = append(names, spec.Name, o.keyName(spec))
		for _, i := range spec.Indexes {
			names = append(names, indexName(spec, i))
		}
	}
	if len(names) > 0 {
		names = append(names, marksName)
	}
	return names, nil
}

// compare returns the work for missing names. A table that exists without the expected primary key belongs to another
// function or program, because the key's name contains the function's.
func (o *opening) compare(missing []string) (todo work, err error) {
	lacks := func(name string) bool { return slices.Contains(missing, name) }
	for _, spec := range o.schema {
		t, fresh := newTable(o.namespace, spec), lacks(spec.Name)
		switch {
		case !fresh && lacks(o.keyName(spec)):
			return work{}, fault.New(fault.Unavailable, "the schema %q has a table %q that is not of the function %s; give "+
				"each function a schema of its own",
				o.namespace, spec.Name, o.function)
		case fresh:
			todo.first = append(todo.first, fmt.Sprintf(`CREATE TABLE %s (id text COLLATE "C" CONSTRAINT %s PRIMARY KEY, `+
				`version bigint NOT NULL, data jsonb NOT NULL, exact bytea)`,
				t.name, quote(o.keyName(spec))))
		}
		for _, i := range spec.Indexes {
			name := indexName(spec, i)
			if !lacks(name) {
				continue
			}
			missing = slices.DeleteFunc(missing, func(m string) bool { return m == name }) // may be declared twice
			if fresh {
				todo.first = append(todo.first, t.indexSQL("", name, i))
				continue
			}
			// CONCURRENTLY takes longer, but other instances can write to the table meanwhile. When it is interrupted, an
			// invalid index is left; so the index gets its name last.
			draft := "new_" + name
			todo.then = append(todo.then,
				"DROP INDEX CONCURRENTLY IF EXISTS "+quote(o.namespace, draft),
				t.indexSQL("CONCURRENTLY ", draft, i),
				"ALTER INDEX "+quote(o.namespace, draft)+" RENAME TO "+quote(name))
		}
	}
	if lacks(marksName) {
		todo.first = append(todo.first, createMarks(o.namespace)...)
	}
	if len(todo.first) > 0 {
		namespace := quote(o.namespace)
		todo.first = append(
			[]string{fmt.Sprintf(keyFunction, namespace), fmt.Sprintf(expectFunction, namespace)}, todo.first...,
		)
	}
	return todo, nil
}

func (t *table) indexSQL(how, name string, i store.Index) string {
	var fields []store.Order
	for _, f := range i.Fields {
		fields = append(fields, store.Order{Field: f})
	}
	return "CREATE INDEX " + how + quote(name) + " ON " + t.name + " (" + strings.Join(t.sorted(fields), ", ") + ")"
}

// PostgreSQL cuts longer names.
const nameLimit = 63

// layout is a part of the names of keys and indexes. It must be changed with the functions and the columns.
const layout = "1"

// keyName returns the name of a collection's primary key, which identifies the function.
func (o *opening) keyName(spec store.Spec) string {
	return nameOf(spec.Name+" of "+o.function, "key", spec.Name, o.function)
}

// indexName returns the name of an index. An index with another declaration has another name.
func indexName(spec store.Spec, i store.Index) string {
	return nameOf(spec.Name+" by "+strings.Join(i.Fields, " "), append([]string{"index", spec.Name}, i.Fields...)...)
}

var unspeakable = regexp.MustCompile(`[^a-z0-9]+`)

// nameOf returns a name that begins with readable words, as far as they fit, and ends with a digest of exactly.
func nameOf(words string, exactly ...string) string {
	sum := sha256.Sum256([]byte(layout + "\x00" + strings.Join(exactly, "\x00")))
	words = unspeakable.ReplaceAllString(strings.ToLower(words), "_")
	return words[:min(len(words), nameLimit-len("new_")-9)] + "_" + hex.EncodeToString(sum[:4])
}
