// Package sqlite stores a function's documents in one SQLite file. It is the embedded default: pure Go, with nothing to
// install.
//
// Durability: when Commit returns nil, the batch survives a kill of the process at any moment, and a power failure. The
// latter requires that the disk and its file system honour fsync; the write-ahead log is synchronised at every commit
// (synchronous=FULL). A batch whose Commit has not returned is applied completely or not at all.
//
// Concurrent commits share one SQLite transaction and so one fsync; a batch whose precondition fails does not affect
// the others. A read sees every commit that was acknowledged before the read began, and does not wait for writers.
//
// Several processes may open one file on a local disk. A network file system can damage the file.
package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/internal/closegate"
	"github.com/ebb-dev/ebb/infra/store/internal/marks"
)

// Store is an open database file.
type Store struct {
	schema  store.Schema
	writer  *writer
	reads   *pool
	floors  *marks.Floors
	closing closegate.Gate // every call enters it
}

var _ store.Driver = (*Store)(nil)

// Opener returns an opener of the files <function>.db in dir. It creates dir when that is missing.
func Opener(dir string) store.Opener {
	return func(ctx context.Context, function string, schema store.Schema) (store.Driver, error) {
		name := function + ".db"
		if filepath.Base(name) != name {
			return nil, fault.New(fault.Internal, "function name %q cannot name a file", function)
		}
		if err := makeDir(dir); err != nil {
			return nil, fault.Wrap(
				err, fault.Unavailable, "the database directory cannot be created; create it, with write permission",
			)
		}
		s, err := Open(ctx, filepath.Join(dir, name), schema)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
}

// Open opens a database file, creates it when it is missing, and updates its collections and indexes to the schema. It
// never drops a collection. Only the owner may read and write the file and its logs, whatever the umask and the
// directory allow; a file that others may read is closed to them.
func Open(ctx context.Context, path string, schema store.Schema) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return openAt(path, schema, time.Now)
}

func openAt(path string, schema store.Schema, now func() time.Time) (*Store, error) {
	if err := protect(path); err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "the database file %s cannot be opened", path)
	}
	floors := &marks.Floors{}
	c, err := connect(path, schema, floors)
	if err != nil {
		return nil, translate(err, "open "+path)
	}
	if err := reconcile(c, schema); err != nil {
		_ = c.close() // the first error is the cause
		return nil, translate(err, "open "+path)
	}
	return &Store{
		schema: schema, writer: startWriter(c, now), reads: newPool(path, schema, floors), floors: floors,
	}, nil
}

// Get implements store.Driver.
func (s *Store) Get(ctx context.Context, keys ...store.Key) ([]store.Document, error) {
	done, err := s.closing.Enter(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := s.schema.CheckKeys(keys...); err != nil {
		return nil, err
	}
	c, err := s.reads.take(ctx)
	if err != nil {
		return nil, translate(err, "get")
	}
	defer s.reads.give(c)
	docs, err := c.snapshot(keys)
	return docs, translate(err, "get")
}

// Query implements store.Driver.
func (s *Store) Query(ctx context.Context, q store.Query) (docs []store.Document, more bool, err error) {
	done, err := s.closing.Enter(ctx)
	if err != nil {
		return nil, false, err
	}
	defer done()
	if err := s.schema.Check(q); err != nil {
		return nil, false, err
	}
	c, err := s.reads.take(ctx)
	if err != nil {
		return nil, false, translate(err, "query")
	}
	defer s.reads.give(c)
	docs, err = c.query(ctx, q)
	if ctx.Err() != nil {
		return nil, false, ctx.Err()
	}
	if err != nil {
		return nil, false, translate(err, "query")
	}
	if len(docs) > q.Limit {
		return docs[:q.Limit], true, nil
	}
	return docs, false, nil
}

// Commit implements store.Driver. When it returns nil, the batch is on the disk.
func (s *Store) Commit(ctx context.Context, b store.Batch) error {
	done, err := s.closing.Enter(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := s.schema.CheckBatch(b); err != nil {
		return err
	}
	return translate(s.writer.commit(ctx, b), "commit")
}

// Floor implements store.Floors.
func (s *Store) Floor(collection string) int64 { return s.floors.Of(collection) }

// Close implements store.Driver. It moves the write-ahead log into the file, so that the file alone is the whole
// database.
func (s *Store) Close() error {
	return s.closing.Close(func() error {
		return translate(errors.Join(s.reads.close(), s.writer.close()), "close")
	})
}

// protect creates a database file when it is missing, and takes all permissions of other users from it and its logs.
// SQLite gives new logs the permissions of the file. It never opens a file that exists: a process that closes a file
// loses all its locks on it, also those of its other handles, and another process would remove the log they write to.
func protect(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, file := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			err = os.Chmod(file, info.Mode().Perm()&0o700)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // another process removes the logs when it closes the file
			return err
		}
	}
	return nil
}

// makeDir creates a directory and synchronises its parent, because otherwise a power failure could remove a new
// database with its directory. SQLite does the same for its files.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(filepath.Clean(dir)))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}
