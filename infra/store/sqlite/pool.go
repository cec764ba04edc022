package sqlite

import (
	"context"
	"errors"
	"sync"

	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/ebb-dev/ebb/infra/store"
)

// Reads are short and the machine's cores few: more connections would only hold more memory.
const readers = 4

// A commit makes the pages that a reader has kept worthless, so it keeps few: 256 KB.
const readerCache = "PRAGMA cache_size = -256"

// pool is a few connections for reading, opened when they are first needed. The one that was used
// last is taken first, so that more are opened only for reads at the same time.
type pool struct {
	path   string
	schema store.Schema
	places chan struct{} // one for each connection in use
	mu     sync.Mutex
	free   []*conn
}

func newPool(path string, schema store.Schema) *pool {
	return &pool{path: path, schema: schema, places: make(chan struct{}, readers)}
}

// take waits for a connection; give returns it.
func (p *pool) take(ctx context.Context) (*conn, error) {
	select {
	case p.places <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c := p.last(); c != nil {
		return c, nil
	}
	c, err := connect(p.path, p.schema)
	if err == nil {
		err = sqlitex.ExecuteTransient(c.Conn, readerCache, nil)
	}
	if err != nil {
		if c != nil {
			_ = c.close() // the reason why it cannot be used is the better error
		}
		<-p.places
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
	<-p.places
}

// close closes every connection. Nobody may hold one any more.
func (p *pool) close() (err error) {
	for c := p.last(); c != nil; c = p.last() {
		err = errors.Join(err, c.close())
	}
	return err
}
