package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ebb-dev/ebb/infra/store"
)

// OpenTraced is Open with a tracer of the connections.
func OpenTraced(
	ctx context.Context, url, function string, schema store.Schema, tracer pgx.QueryTracer,
) (*Store, error) {
	c, err := parse(url)
	if err != nil {
		return nil, err
	}
	c.pool.ConnConfig.Tracer = tracer
	return c.open(ctx, function, schema)
}

// SetNow sets the clock that dates marks, before the first commit.
func (s *Store) SetNow(now func() time.Time) { s.now = now }

// Marks returns the number of marks of deleted documents.
func (s *Store) Marks(ctx context.Context) (n int, err error) {
	err = s.pool.QueryRow(ctx, "SELECT count(*) FROM "+s.marks+" WHERE collection <> ''").Scan(&n)
	return n, err
}
