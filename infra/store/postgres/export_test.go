package postgres

import (
	"context"

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
