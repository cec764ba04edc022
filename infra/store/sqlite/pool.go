package sqlite

import (
	"context"
	"errors"
	"sync"

	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/internal/marks"
)

// readers is the most connections for reading. Reads are short and the machine has few cores: more connections would
// only use more memory.
const readers = 4

// readerCache limits the page cache of a reader to 256 KB, because each commit invalidates the cached pages.
const readerCache = "PRAGMA cache_size = -256"

// pool holds a few connections for reading, opened when they are first needed. The one that was used last is taken
// first, so that further ones are opened only for concurrent reads.
type pool struct {
	path   string
	schema store.Schema
	floors *marks.Floors
	slots  chan struct{} // one for each connection in use
	mu     sync.Mutex
	free   []*conn
}

func newPool(path string, schema store.Schema, floors *marks.Floors) *pool {
	return &pool{path: path, schema: schema, floors: floors, slots: make(chan struct{}, readers)}
}

// take waits for a connection and returns it. The caller gives it back with give.
func (p *pool) take(ctx context.Context) (*conn, error) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c := p.last(); c != nil {
		return c, nil
	}
	c, err := connect(p.path, p.schema, p.floors)
	if err == nil {
		err = sqlitex.ExecuteTransient(c.Conn, readerCache, nil)
	}
	if err != nil {
		if c != nil {
			_ = c.close() // the first error is the cause
		}
		<-p.slots
		return nil, err
	}
	return c, nil
}

func (p *pool) last() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.free)
	if n == 0 {
		return nil
	}
	c := p.free[n-1]
	p.free = p.free[:n-1]
	return c
}

func (p *pool) give(c *conn) {
	p.mu.Lock()
	p.free = append(p.free, c)
	p.mu.Unlock()
	<-p.slots
}

// close closes every connection. All must have been given back.
func (p *pool) close() (err error) {
	for c := p.last(); c != nil; c = p.last() {
		err = errors.Join(err, c.close())
	}
	return err
}
