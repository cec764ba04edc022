package postgres_test

import (
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/postgres"
	"github.com/ebb-dev/ebb/infra/store/postgres/pgtest"
	"github.com/ebb-dev/ebb/infra/store/storetest"
)

func TestConformance(t *testing.T) { conform(t, "cache_statement") }

// The suite passes without prepared statements, as needed for a PgBouncer that does not support them.
func TestConformanceWithoutPreparedStatements(t *testing.T) { conform(t, "exec") }

func conform(t *testing.T, mode string) {
	pgtest.Superuser(t) // skips the whole test and not each case
	var urls sync.Map   // by test
	reopen := func(t *testing.T, schema store.Schema) store.Driver {
		url, _ := urls.Load(t.Name())
		d, err := postgres.Open(t.Context(), url.(string), "orders", schema)
		if err != nil {
			t.Error(err)
			return nil
		}
		return d
	}
	storetest.Run(t, storetest.Harness{
		New: func(t *testing.T, schema store.Schema) store.Driver {
			urls.Store(t.Name(), pgtest.Param(t, pgtest.Role(t), "default_query_exec_mode", mode))
			return reopen(t, schema)
		},
		Reopen: reopen,
		Later: func(t *testing.T, schema store.Schema) store.Driver {
			d := reopen(t, schema)
			d.(*postgres.Store).SetNow(func() time.Time { return time.Now().Add(store.MarkRetention + time.Hour) })
			return d
		},
		Marks: func(t *testing.T, d store.Driver) int {
			n, err := d.(*postgres.Store).Marks(t.Context())
			if err != nil {
				t.Error(err)
			}
			return n
		},
	})
}
