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

// opening brings a schema of a database to what a function declares. It adds and never takes away: an index that is
// declared no longer may still serve an instance of an older version, which is there at the same time while a new one is rolled
// out, and should it be started again it would only make the index anew.
type opening struct {
	pool      *pgxpool.Pool
	function  string
	schema    store.Schema
	namespace string // the schema of the database; empty: the role's
}

// work is what there is to do: a script that makes tables and functions, and then one statement after the other.
type work struct{ first, then []string }

func (w work) none() bool { return len(w.first)+len(w.then) == 0 }

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

// explain adds what to do when the role may not make something.
func (o *opening) explain(err error) error {
	var said interface{ SQLState() string }
	if errors.As(err, &said) && said.SQLState() == "42501" {
		return fault.Wrap(err, fault.Unavailable, "the role may not make tables in the schema %[1]q; run ALTER SCHEMA %[2]s OWNER TO %[3]s",
			o.namespace, quote(o.namespace), quote(o.pool.Config().ConnConfig.User))
	}
	return err
}

// inventory tells which of some names there are not in the schema that is named, or in the role's. It looks names up and reads
// no table of the catalogue: to plan that would take a new connection longer than all the rest.
const inventory = `SELECT coalesce(name, ''), oid IS NOT NULL, coalesce(has_schema_privilege(oid, 'USAGE'), false),
	current_setting('server_encoding'), current_setting('synchronous_commit'),
	ARRAY(SELECT x FROM unnest($2::text[]) x WHERE
		CASE WHEN has_schema_privilege(oid, 'USAGE') THEN to_regclass(quote_ident(name) || '.' || quote_ident(x)) IS NULL END)
FROM (SELECT name, to_regnamespace(quote_ident(name))::oid AS oid FROM
	(SELECT coalesce(nullif($1::text, ''), current_schema()::text) AS name) named) found`

// look finds out what is missing, in one query that is not prepared, since it is needed once.
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
		return work{}, fault.New(fault.Unavailable, "the role finds no schema; run CREATE SCHEMA AUTHORIZATION %s, or name one with search_path in the store's URL", role)
	case !exists:
		return work{}, fault.New(fault.Unavailable, "the schema %q does not exist; run CREATE SCHEMA %s AUTHORIZATION %s", namespace, quote(namespace), role)
	case !usable:
		return work{}, fault.New(fault.Unavailable, "the role may not use the schema %q; run ALTER SCHEMA %s OWNER TO %s", namespace, quote(namespace), role)
	case encoding != "UTF8":
		return work{}, fault.New(fault.Unavailable, "the database keeps text as %s; create one with ENCODING 'UTF8'", encoding)
	case durability == "off":
		return work{}, fault.New(fault.Unavailable, "the database acknowledges what is not on its disk yet; run ALTER ROLE %s SET synchronous_commit = on", role)
	}
	o.namespace = namespace
	return o.compare(missing)
}

// names are those of all tables, their primary keys, and indexes.
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
	return names, nil
}

// compare is what to do when these names are missing. A table that is there without the primary key that we give it is
// somebody else's: its name says of which function it is.
func (o *opening) compare(missing []string) (todo work, err error) {
	lacks := func(name string) bool { return slices.Contains(missing, name) }
	for _, spec := range o.schema {
		t, fresh := newTable(o.namespace, spec.Name), lacks(spec.Name)
		switch {
		case !fresh && lacks(o.keyName(spec)):
			return work{}, fault.New(fault.Unavailable, "the schema %q has a table %q that is not of the function %s; give each function a schema of its own",
				o.namespace, spec.Name, o.function)
		case fresh:
			todo.first = append(todo.first, fmt.Sprintf(`CREATE TABLE %s (id text COLLATE "C" CONSTRAINT %s PRIMARY KEY, version bigint NOT NULL, data jsonb NOT NULL, exact bytea)`,
				t.name, quote(o.keyName(spec))))
		}
		for _, i := range spec.Indexes {
			name := indexName(spec, i)
			if !lacks(name) {
				continue
			}
			missing = slices.DeleteFunc(missing, func(m string) bool { return m == name }) // it may be declared twice
			if fresh {
				todo.first = append(todo.first, t.indexSQL("", name, i))
				continue
			}
			// Other instances write to the table meanwhile, and go on: this takes longer than CREATE INDEX, which would have
			// them wait until it is done. When it is stopped half-way, an index is left that is of no use; so it gets its name last.
			draft := "new_" + name
			todo.then = append(todo.then,
				"DROP INDEX CONCURRENTLY IF EXISTS "+quote(o.namespace, draft),
				t.indexSQL("CONCURRENTLY ", draft, i),
				"ALTER INDEX "+quote(o.namespace, draft)+" RENAME TO "+quote(name))
		}
	}
	if len(todo.first) > 0 {
		namespace := quote(o.namespace)
		todo.first = append([]string{fmt.Sprintf(keyFunction, namespace), fmt.Sprintf(expectFunction, namespace)}, todo.first...)
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

// layout is part of the names of keys and indexes. It changes with the functions and the columns.
const layout = "1"

// keyName is the name of the primary key of a collection, which says whose it is.
func (o *opening) keyName(spec store.Spec) string {
	return nameOf(spec.Name+" of "+o.function, "key", spec.Name, o.function)
}

// indexName is the name of an index. One that is declared otherwise is another index.
func indexName(spec store.Spec, i store.Index) string {
	return nameOf(spec.Name+" by "+strings.Join(i.Fields, " "), append([]string{"index", spec.Name}, i.Fields...)...)
}

var unspeakable = regexp.MustCompile(`[^a-z0-9]+`)

// nameOf begins with words for people, as far as there is room, and ends with a digest of what exactly is named.
func nameOf(words string, exactly ...string) string {
	sum := sha256.Sum256([]byte(layout + "\x00" + strings.Join(exactly, "\x00")))
	words = unspeakable.ReplaceAllString(strings.ToLower(words), "_")
	return words[:min(len(words), nameLimit-len("new_")-9)] + "_" + hex.EncodeToString(sum[:4])
}
