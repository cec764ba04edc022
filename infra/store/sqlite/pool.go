package sqlite

import (
	"context"
	"errors"
)

// Reads are short and the machine's cores few: more connections would only hold more memory.
const readers = 4

// pool is a few connections for reading, opened when they are first needed.
type pool struct {
	path string
	free chan *conn // always the same number of them, nil while not opened
}

func newPool(path string) *pool {
	p := &pool{path: path, free: make(chan *conn, readers)}
	for range readers {
		p.free <- nil
	}
	return p
}

// take waits for a connection; give returns it.
func (p *pool) take(ctx context.Context) (*conn, error) {
	select {
	case c := <-p.free:
		if c != nil {
			return c, nil
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c, err := connect(p.path)
	if err != nil {
		p.free <- nil
	}
	return c, err
}

func (p *pool) give(c *conn) { p.free <- c }

// close closes every connection. Nobody may hold one any more.
func (p *pool) close() (err error) {
	for range readers {
		if c := <-p.free; c != nil {
			err = errors.Join(err, c.close())
		}
	}
	return err
}
