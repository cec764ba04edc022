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

// A batch is one pipeline: a statement per document, in the order of their keys, that ends with one Sync. PostgreSQL
// runs it as one transaction, without BEGIN and COMMIT, so a commit is one round trip.
//
// Each statement checks its precondition and locks its row until the end. A statement whose precondition does not hold
// raises an error, which rolls the others back. So all preconditions of a batch hold at its commit:
//
//   - A document that is written is checked by the statement that writes it. In READ COMMITTED, an UPDATE that had to
//     wait for another transaction reads its row again.
//   - A document that is only read is locked FOR SHARE: transactions that write it wait.
//   - A document that must be missing has no row to lock. An INSERT creates one, for which concurrent inserts wait.
//     When the batch does not write the document, it deletes the row again; no other transaction has seen it.
//   - A document that is deleted whatever its version is locked before, or its row is created: a DELETE that finds no
//     row would lock nothing, and another transaction could create the document before the commit.
//   - A document that is created must have a version above its mark. A statement after the INSERT checks that. It sees
//     the marks of all deletions before, since the INSERT has waited for them; no other can come before the commit.
//
// SERIALIZABLE would guarantee the same without locks. But it makes transactions fail that read and write the same
// pages of an index, and ids that grow with time are on the same page.
//
// All batches lock rows in the order of keys, so no two of them form a deadlock. A deadlock with statements that a
// person runs in the schema is possible. It is retried, as are serialization failures where the role has another
// default isolation.

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
	insert := "INSERT INTO " + t.name + " (id, version, data, exact) VALUES ($1, $2, $3::text::jsonb, $4) ON CONFLICT " +
		"(id) DO "
	t.create = expect(insert + "NOTHING RETURNING 1")
	t.put = insert + "UPDATE SET version = excluded.version, data = excluded.data, exact = excluded.exact"
	t.change = expect("UPDATE " + t.name + " SET version = $2, data = $3::text::jsonb, exact = $4 WHERE id = $1 AND " +
		"version = $5 RETURNING 1")
	t.erase = expect("DELETE FROM " + t.name + " WHERE id = $1 AND version = $2 RETURNING 1")
	t.prepareMarks()
	t.check = expect("SELECT 1 FROM " + t.name + " WHERE id = $1 AND version = $2 FOR SHARE")
	t.reserve = expect(
		"INSERT INTO " + t.name + " (id, version, data) VALUES ($1, 0, '{}') ON CONFLICT (id) DO NOTHING RETURNING 1",
	)
	t.hold = "INSERT INTO " + t.name + " AS t (id, version, data) VALUES ($1, 0, '{}') ON CONFLICT (id) DO UPDATE SET " +
		"version = t.version"
	t.remove = "DELETE FROM " + t.name + " WHERE id = $1"
}

// change is the precondition and the mutation of one document of a batch.
type change struct {
	store.Key
	expected int64           // the required version; whichever: it is not checked
	write    *store.Mutation // nil: the document is only checked
}

const whichever = -1

// changes returns the changes of a batch in the order of their keys.
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

// pipeline returns the statements of the changes, and the key of each.
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
				if !t.singleUse {
					queue(t.above, c.write.Version)
				}
			default:
				queue(t.change, c.write.Version, doc, exact, c.expected)
			}
		case c.expected == 0:
			queue(t.reserve)
			queue(t.remove)
		case c.expected == whichever && t.singleUse:
			queue(t.remove)
		case c.expected == whichever:
			queue(t.hold)
			queue(t.markAndRemove, c.write.Version, s.now().Unix())
		case c.write == nil:
			queue(t.check, c.expected)
		case t.singleUse:
			queue(t.erase, c.expected)
		default:
			queue(t.markAndErase, c.write.Version, s.now().Unix(), c.expected)
		}
	}
	return batch, keys
}

// attempts is how often a batch is tried that ends with a deadlock, or whose connection broke before anything was
// committed.
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
		if err == nil {
			s.pruneAfter(ctx, b)
		}
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
			_ = results.Close() // repeats the error
			return failed(err, k)
		}
	}
	// The last result reports the commit of the transaction.
	if err := results.Close(); err != nil {
		return failed(err, store.Key{})
	}
	return nil
}

// undone marks an error after which certainly nothing was committed.
type undone struct{ error }

func (u undone) Unwrap() error { return u.error }

// failed returns the error of a statement of a pipeline, or of its end, which has no key. When PostgreSQL itself
// reports the error of a statement, the transaction is rolled back, also when the connection then breaks. At the end,
// only an error that keeps the connection open means that.
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

// again reports whether a batch that was certainly not committed should be retried at once.
func (s *Store) again(err error) bool {
	if !errors.As(err, new(undone)) {
		return false
	}
	if broken(err) {
		s.pool.Reset() // the other connections of the pool are broken too
		return true
	}
	return collided(err)
}
