package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// opening brings a schema of a database to what a function declares. It adds and never takes away: an index that is
// declared no longer may still serve an instance of an older version, which is there at the same time while a new one is rolled
// out, and should it be started again it would only make the index anew.
type opening struct {
	pool      *pgxpool.Pool
	function  string
	schema    store.Schema
	namespace string // the schema of the database; empty: the role's
}

// missing is what there is to do: a script that makes tables and functions, and then one statement after the other.
type missing struct{ first, then []string }

func (m missing) none() bool { return len(m.first)+len(m.then) == 0 }

// reconcile makes what is missing. Of many who find something missing one makes it; the others look until all is there.
func (o *opening) reconcile(ctx context.Context) error {
	todo, err := o.look(ctx)
	if err != nil || todo.none() {
		return err
	}
	// The lock is a transaction on a connection of its own, which does nothing else: it goes when this process does, and
	// works through PgBouncer. Nobody waits in line for it, since a statement that waits has a snapshot, and CREATE INDEX
	// CONCURRENTLY, under the lock, waits for all that have older ones.
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
			return fault.Wrap(ctx.Err(), fault.KindOf(ctx.Err()), "another instance is still making tables or indexes; wait for it")
		case <-time.After(time.Duration(10+rand.IntN(30)) * time.Millisecond):
		}
	}
}

// hangUp ends the lock with its connection.
func (o *opening) hangUp(ctx context.Context, c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = c.Close(ctx) // whatever it says, the connection is of no more use
}

func (o *opening) tryLock(ctx context.Context, c *pgx.Conn) (locked bool, err error) {
	if _, err := c.Exec(ctx, "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0"); err != nil {
		return false, err
	}
	// In the simple protocol a statement is over when it is answered. In the other its portal, and with that its snapshot, would stay.
	sql := "SELECT pg_try_advisory_xact_lock(hashtextextended(" + literal("ebb "+o.namespace) + ", 0))"
	err = c.QueryRow(ctx, sql, pgx.QueryExecModeSimpleProtocol).Scan(&locked)
	if err != nil || locked {
		return locked, err
	}
	_, err = c.Exec(ctx, "ROLLBACK")
	return false, err
}

func (o *opening) build(ctx context.Context, todo missing) error {
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

// explain adds what to do when the role may not make something.
func (o *opening) explain(err error) error {
	var said interface{ SQLState() string }
	if errors.As(err, &said) && said.SQLState() == "42501" {
		return fault.Wrap(err, fault.Unavailable, "the role may not make tables in the schema %[1]q; run ALTER SCHEMA %[2]s OWNER TO %[3]s",
			o.namespace, quote(o.namespace), quote(o.pool.Config().ConnConfig.User))
	}
	return err
}

// inventory is what there is of some names in the schema that is named, or in the role's: one row for each relation, and
// at least one. The functions count as one.
const inventory = `SELECT s.name, n.oid IS NOT NULL, coalesce(has_schema_privilege(n.oid, 'USAGE'), false),
	current_setting('server_encoding'), current_setting('synchronous_commit'),
	(SELECT count(*) FROM pg_proc p WHERE p.pronamespace = n.oid AND p.proname IN ('ebb_key', 'ebb_expect')),
	coalesce(c.relname::text, ''), coalesce(c.relkind::text, ''), coalesce(i.indisvalid, true), coalesce(d.description, '')
FROM (SELECT coalesce(nullif($1::text, ''), current_schema()::text, '') AS name) s
LEFT JOIN pg_namespace n ON n.nspname = s.name
LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = ANY($2::text[])
LEFT JOIN pg_index i ON i.indexrelid = c.oid
LEFT JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = 0`

// relation is a table or an index that is there.
type relation struct {
	kind, comment string
	valid         bool
}

// look finds out what is missing, in one query that is not prepared, since it is needed once.
func (o *opening) look(ctx context.Context) (missing, error) {
	names, err := o.names()
	if err != nil {
		return missing{}, err
	}
	rows, err := o.pool.Query(ctx, inventory, pgx.QueryExecModeExec, o.namespace, names)
	if err != nil {
		return missing{}, err
	}
	var namespace, encoding, durability string
	var exists, usable bool
	var functions int
	there := map[string]relation{}
	var name string
	var r relation
	_, err = pgx.ForEachRow(rows, []any{&namespace, &exists, &usable, &encoding, &durability, &functions, &name, &r.kind, &r.valid, &r.comment}, func() error {
		there[name] = r
		return nil
	})
	if err != nil {
		return missing{}, err
	}
	role := quote(o.pool.Config().ConnConfig.User)
	switch {
	case namespace == "":
		return missing{}, fault.New(fault.Unavailable, "the role finds no schema; run CREATE SCHEMA AUTHORIZATION %s, or name one with search_path in the store's URL", role)
	case !exists:
		return missing{}, fault.New(fault.Unavailable, "the schema %q does not exist; run CREATE SCHEMA %s AUTHORIZATION %s", namespace, quote(namespace), role)
	case !usable:
		return missing{}, fault.New(fault.Unavailable, "the role may not use the schema %q; run ALTER SCHEMA %s OWNER TO %s", namespace, quote(namespace), role)
	case encoding != "UTF8":
		return missing{}, fault.New(fault.Unavailable, "the database keeps text as %s; create one with ENCODING 'UTF8'", encoding)
	case durability == "off":
		return missing{}, fault.New(fault.Unavailable, "the database acknowledges what is not on its disk yet; run ALTER ROLE %s SET synchronous_commit = on", role)
	}
	o.namespace = namespace
	return o.compare(there, functions == 2)
}

// names are those of all tables and indexes.
func (o *opening) names() (names []string, err error) {
	for _, spec := range o.schema {
		if len(spec.Name) > nameLimit || !storable(spec.Name) {
			return nil, fault.New(fault.Internal, "collection name %q cannot name a table", spec.Name)
		}
		names = append(names, spec.Name)
		for _, i := range spec.Indexes {
			names = append(names, indexName(spec, i))
		}
	}
	return names, nil
}

func (o *opening) compare(there map[string]relation, functions bool) (m missing, err error) {
	namespace, owned := quote(o.namespace), "documents of the function "+o.function
	if !functions {
		m.first = append(m.first, fmt.Sprintf(keyFunction, namespace), fmt.Sprintf(expectFunction, namespace))
	}
	for _, spec := range o.schema {
		table, r := newTable(o.namespace, spec.Name), there[spec.Name]
		fresh := r.kind == ""
		switch {
		case !fresh && r.kind != "r" && r.kind != "p":
			return m, fault.New(fault.Unavailable, "the schema %q has something else of the name %q; give the function a schema of its own", o.namespace, spec.Name)
		case !fresh && strings.HasPrefix(r.comment, "documents of the function ") && r.comment != owned:
			return m, fault.New(fault.Unavailable, "the schema %q holds the %s; give %s a schema of its own", o.namespace, r.comment, o.function)
		case fresh || r.comment != owned:
			m.first = append(m.first,
				"CREATE TABLE IF NOT EXISTS "+table.name+` (id text COLLATE "C" PRIMARY KEY, version bigint NOT NULL, data jsonb NOT NULL, exact bytea)`,
				"COMMENT ON TABLE "+table.name+" IS "+literal(owned))
		}
		for _, i := range spec.Indexes {
			name := indexName(spec, i)
			index := there[name]
			switch {
			case fresh:
				m.first = append(m.first, table.indexSQL("", name, i))
			case index.kind != "" && !index.valid: // whoever made it was stopped
				m.then = append(m.then, "DROP INDEX CONCURRENTLY IF EXISTS "+quote(o.namespace, name))
				fallthrough
			case index.kind == "":
				// Other instances write to the table meanwhile, and go on: this takes longer than CREATE INDEX, which
				// would have them wait until it is done.
				m.then = append(m.then, table.indexSQL("CONCURRENTLY ", name, i))
			}
		}
	}
	return m, nil
}

func (t *table) indexSQL(how, name string, i store.Index) string {
	var fields []store.Order
	for _, f := range i.Fields {
		fields = append(fields, store.Order{Field: f})
	}
	return "CREATE INDEX " + how + "IF NOT EXISTS " + quote(name) + " ON " + t.name + " (" + strings.Join(t.sorted(fields), ", ") + ")"
}

// PostgreSQL cuts longer names.
const nameLimit = 63

var unspeakable = regexp.MustCompile(`[^a-z0-9]+`)

// indexName begins with what an index is for, as far as there is room, and ends with a digest of what it is exactly: one
// that is declared otherwise, or made by another keyFunction, is another index.
func indexName(spec store.Spec, i store.Index) string {
	sum := sha256.Sum256([]byte("ebb_key\x00" + spec.Name + "\x00" + strings.Join(i.Fields, "\x00")))
	words := unspeakable.ReplaceAllString(strings.ToLower(spec.Name+"_by_"+strings.Join(i.Fields, "_")), "_")
	return words[:min(len(words), nameLimit-9)] + "_" + hex.EncodeToString(sum[:4])
}
