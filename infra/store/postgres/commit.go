package postgres

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// A batch is one pipeline: a statement per document, in the order of their keys, that ends with one Sync. PostgreSQL takes
// that as one transaction, without BEGIN and COMMIT, so that a commit is one round trip.
//
// Each statement checks what its precondition says and locks its row until the end, and one that does not find
// what it expects raises an error, which undoes the others. So everything a batch expects holds at the moment it is committed:
//
//   - A document that is written is checked by the statement that writes it. In READ COMMITTED, an UPDATE that had to wait
//     for another transaction looks at its row again.
//   - One that is only read is locked FOR SHARE: who wants to write it waits.
//   - One that must not exist has no row to lock. An INSERT makes one, and others who want to make it wait for that. When
//     the batch does not write the document, it deletes the row again, which nobody has ever seen.
//
// SERIALIZABLE would give the same without locks. But it has every commit be retried that comes too near to another, and
// what it calls near are pages of an index: ids that grow with time lie on the same one.
//
// As all batches lock in the order of keys, none waits for one that waits for it. Deadlocks with what others do in the
// schema by hand are possible; that, and serialization failures where the role's default is another isolation, is tried again.

// conflict is the SQLSTATE that expectFunction raises.
const conflict = "EB409"

const expectFunction = `CREATE OR REPLACE FUNCTION %s.ebb_expect(n bigint) RETURNS void LANGUAGE plpgsql AS $ebb$
BEGIN
	IF n <> 1 THEN
		RAISE EXCEPTION 'a document is not at the version that a commit expects' USING ERRCODE = '` + conflict + `';
	END IF;
END
$ebb$`

func (t *table) prepare() {
	expect := func(sql string) string {
		return "WITH found AS (" + sql + ") SELECT " + t.namespace + ".ebb_expect(count(*)) FROM found"
	}
	insert := "INSERT INTO " + t.name + " (id, version, data, exact) VALUES ($1, $2, $3::text::jsonb, $4) ON CONFLICT (id) DO "
	t.create = expect(insert + "NOTHING RETURNING 1")
	t.put = insert + "UPDATE SET version = excluded.version, data = excluded.data, exact = excluded.exact"
	t.change = expect("UPDATE " + t.name + " SET version = $2, data = $3::text::jsonb, exact = $4 WHERE id = $1 AND version = $5 RETURNING 1")
	t.erase = expect("DELETE FROM " + t.name + " WHERE id = $1 AND version = $2 RETURNING 1")
	t.check = expect("SELECT 1 FROM " + t.name + " WHERE id = $1 AND version = $2 FOR SHARE")
	t.reserve = expect("INSERT INTO " + t.name + " (id, version, data) VALUES ($1, 0, '{}') ON CONFLICT (id) DO NOTHING RETURNING 1")
	t.remove = "DELETE FROM " + t.name + " WHERE id = $1"
}

// change is what a batch says of one document.
type change struct {
	store.Key
	expected int64           // the version that it must be at; whichever: it is not checked
	write    *store.Mutation // nil: it is only checked
}

const whichever = -1

// changes are those of a batch in the order of their keys.
func changes(b store.Batch) []change {
	all := make([]change, 0, len(b.Preconditions)+len(b.Mutations))
	at := make(map[store.Key]int, len(b.Mutations))
	for i := range b.Mutations {
		m := &b.Mutations[i]
		at[m.Key] = len(all)
		all = append(all, change{m.Key, whichever, m})
	}
	for _, p := range b.Preconditions {
		if i, written := at[p.Key]; written {
			all[i].expected = p.Version
		} else {
			all = append(all, change{p.Key, p.Version, nil})
		}
	}
	slices.SortFunc(all, func(a, b change) int {
		return cmp.Or(cmp.Compare(a.Collection, b.Collection), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// pipeline is the statements that make the changes, and the key that each is about.
func (s *Store) pipeline(all []change) (batch *pgx.Batch, keys []store.Key) {
	batch = &pgx.Batch{}
	for _, c := range all {
		queue := func(sql string, args ...any) {
			batch.Queue(sql, append([]any{c.ID}, args...)...)
			keys = append(keys, c.Key)
		}
		t := s.tables[c.Collection]
		switch {
		case c.write != nil && c.write.Data != nil:
			doc, exact := stored(c.write.Data)
			switch c.expected {
			case whichever:
				queue(t.put, c.write.Version, doc, exact)
			case 0:
				queue(t.create, c.write.Version, doc, exact)
			default:
				queue(t.change, c.write.Version, doc, exact, c.expected)
			}
		case c.expected == 0:
			queue(t.reserve)
			queue(t.remove)
		case c.expected == whichever:
			queue(t.remove)
		case c.write == nil:
			queue(t.check, c.expected)
		default:
			queue(t.erase, c.expected)
		}
	}
	return batch, keys
}

// attempts is how often a batch is tried that lost to a deadlock, or whose connection was cut before it did anything.
const attempts = 4

// Commit implements store.Driver.
func (s *Store) Commit(ctx context.Context, b store.Batch) error {
	done, err := s.closing.Enter(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := s.schema.CheckBatch(b); err != nil {
		return err
	}
	all := changes(b)
	for n := 1; ; n++ {
		err := s.try(ctx, all)
		if n == attempts || ctx.Err() != nil || !s.again(err) {
			return translate(ctx, err, "commit")
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(rand.Int64N(int64(n) * int64(5*time.Millisecond)))):
		}
	}
}

// try commits once.
func (s *Store) try(ctx context.Context, all []change) error {
	if len(all) == 0 {
		return nil
	}
	batch, keys := s.pipeline(all)
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		return undone{err}
	}
	defer c.Release()
	results := c.SendBatch(ctx, batch)
	for _, k := range keys {
		if _, err := results.Exec(); err != nil {
			_ = results.Close() // it only says the same again
			return failed(err, k)
		}
	}
	// What is answered last is that the transaction is committed. Until then nothing is.
	if err := results.Close(); err != nil {
		return failed(err, store.Key{})
	}
	return nil
}

// undone marks a failure after which it is certain that nothing was committed.
type undone struct{ error }

func (u undone) Unwrap() error { return u.error }

// failed is why a statement of a pipeline failed, or its end, which has no key. When PostgreSQL says itself why a statement
// failed, the transaction is undone, even if it goes away just then. At the end, only an error after which it stays says so.
func failed(err error, k store.Key) error {
	var said *pgconn.PgError
	switch answered := errors.As(err, &said); {
	case answered && said.Code == conflict:
		return fault.New(fault.Conflict, "%s %q has changed in the meantime", k.Collection, k.ID)
	case answered && (k != store.Key{} || !fatal(said)), pgconn.SafeToRetry(err):
		return undone{err}
	}
	return err
}

// again reports whether a batch that was certainly not committed should be tried again at once.
func (s *Store) again(err error) bool {
	if !errors.As(err, new(undone)) {
		return false
	}
	if lost(err) {
		s.pool.Reset() // the others in the pool are cut as well
		return true
	}
	return collided(err)
}
