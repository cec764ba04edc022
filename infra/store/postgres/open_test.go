package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/postgres"
	"github.com/ebb-dev/ebb/infra/store/postgres/pgtest"
	"github.com/ebb-dev/ebb/infra/store/storetest"
)

// Ten instances of a new version open concurrently, first an empty database and then one that needs another index; all
// succeed.
func TestTenOpenAtOnce(t *testing.T) {
	url := pgtest.Role(t)
	next := append(store.Schema{{Name: "more"}}, storetest.Schema...)
	next[1].Indexes = append([]store.Index{store.On("size"), store.On("kind", "size")}, next[1].Indexes...)
	for _, schema := range []store.Schema{storetest.Schema, next} {
		var all []func() error
		for i := range 10 {
			all = append(all, func() error {
				s, err := postgres.Open(t.Context(), url, "orders", schema)
				if err != nil {
					return err
				}
				defer func() { _ = s.Close() }()
				return s.Commit(
					t.Context(), store.Batch{Mutations: []store.Mutation{put(thing(fmt.Sprint(i)), 1, `{"n":1,"size":2}`)}},
				)
			})
		}
		for _, err := range together(all...) {
			if err != nil {
				t.Error(err)
			}
		}
	}
	s := open(t, url, next)
	docs, _, err := s.Query(t.Context(), store.Query{
		Collection: "things", Where: []store.Filter{{Field: "size", Op: store.Equal, Value: int64(2)}}, Limit: 100,
	})
	if err != nil || len(docs) != 10 {
		t.Errorf("got %d documents, %v", len(docs), err)
	}
}

// While an index is created, instances of the version before can write, also when the index waits for a transaction;
// their documents are in the index.
func TestIndexCreatedWhileOthersWrite(t *testing.T) {
	url := pgtest.Role(t)
	old := open(t, url, storetest.Schema)
	for i := range 500 {
		commit(t, old, nil, put(thing(fmt.Sprint(i)), 1, fmt.Sprintf(`{"size":%d}`, i)))
	}
	// An open transaction with a write delays the index.
	c := pgtest.Connect(t, url)
	tx, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `INSERT INTO things VALUES ('long', 1, '{"size":7}')`); err != nil {
		t.Fatal(err)
	}
	schema := store.Schema{{Name: "things", Indexes: []store.Index{store.On("size")}}}
	opened := make(chan *postgres.Store, 1)
	go func() {
		s, err := postgres.Open(t.Context(), url, "orders", schema)
		if err != nil {
			t.Error(err)
		}
		opened <- s
	}()
	waitFor(t, url, "SELECT count(*) FROM pg_stat_activity WHERE usename = current_user AND query LIKE 'CREATE INDEX%' "+
		"AND wait_event_type = 'Lock'", 1)
	for i := range 100 {
		commit(t, old, nil, put(thing(fmt.Sprint("new ", i)), 1, `{"size":7}`))
	}
	select {
	case <-opened:
		t.Error("it was opened without the index")
	default:
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := <-opened
	if s == nil {
		return
	}
	defer func() { _ = s.Close() }()
	commit(t, old, nil, put(thing("last"), 1, `{"size":7}`))
	docs, _, err := s.Query(t.Context(), store.Query{
		Collection: "things", Where: []store.Filter{{Field: "size", Op: store.Equal, Value: int64(7)}}, Limit: 1000,
	})
	if err != nil || len(docs) != 103 {
		t.Errorf("got %d of 103, %v", len(docs), err)
	}
}

// An index whose creation was interrupted is created again.
func TestInterruptedIndex(t *testing.T) {
	url := pgtest.Role(t)
	old := open(t, url, storetest.Schema)
	commit(t, old, nil, put(thing("a"), 1, `{"size":7}`))
	c := pgtest.Connect(t, url)
	tx, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `INSERT INTO things VALUES ('long', 1, '{"size":7}')`); err != nil {
		t.Fatal(err)
	}
	schema := store.Schema{{Name: "things", Indexes: []store.Index{store.On("size")}}}
	stopped := make(chan error, 1)
	go func() {
		_, err := postgres.Open(t.Context(), url, "orders", schema)
		stopped <- err
	}()
	waitFor(t, url, "SELECT count(*) FROM pg_stat_activity WHERE usename = current_user AND query LIKE 'CREATE INDEX%' "+
		"AND wait_event_type = 'Lock'", 1)
	pgtest.Exec(t, url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND query "+
		"LIKE 'CREATE INDEX%' AND pid <> pg_backend_pid()")
	if err := <-stopped; !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := open(t, url, schema)
	docs, _, err := s.Query(t.Context(), store.Query{
		Collection: "things", Where: []store.Filter{{Field: "size", Op: store.Equal, Value: int64(7)}}, Limit: 1000,
	})
	if err != nil || len(docs) != 2 {
		t.Errorf("got %d of 2, %v", len(docs), err)
	}
	waitFor(t, url, "SELECT count(*) FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE NOT indisvalid AND "+
		"relnamespace = current_schema()::regnamespace", 0)
}

// A database of the version before, which kept no marks, gets their table, and its documents stay.
func TestDatabaseWithoutMarks(t *testing.T) {
	url := pgtest.Role(t)
	old := open(t, url, storetest.Schema)
	commit(t, old, nil, put(thing("a"), 5, `{"n":1}`))
	pgtest.Exec(t, url, "DROP TABLE ebb_deleted")
	s := open(t, url, storetest.Schema)
	commit(t, s, nil, store.Mutation{Key: thing("a")})
	docs, err := s.Get(t.Context(), thing("a"), thing("b"))
	if err != nil || docs[0].Version != 0 || docs[0].Last != 5 || docs[1].Last != 0 {
		t.Errorf("got %+v, %v", docs, err)
	}
}

// The error tells that the context ended while waiting for an index.
func TestWaitingHasAnEnd(t *testing.T) {
	url := pgtest.Role(t)
	open(t, url, storetest.Schema)
	c := pgtest.Connect(t, url)
	const lock = "SELECT pg_advisory_lock(hashtextextended('ebb ' || current_schema(), 0))"
	if _, err := c.Exec(t.Context(), lock); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error, 1)
	go func() {
		_, err := postgres.Open(ctx, url, "orders", store.Schema{{Name: "another"}})
		answer <- err
	}()
	waitFor(t, url, "SELECT least(count(*), 1) FROM pg_stat_activity WHERE usename = current_user AND application_name "+
		"= 'ebb orders' AND query = 'ROLLBACK'", 1)
	cancel()
	if err := <-answer; !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
}

// An index that is not declared any more stays, because an older version may run, and everything else stays too.
func TestNothingIsDropped(t *testing.T) {
	url := pgtest.Role(t)
	open(t, url, storetest.Schema)
	count := "SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
	c := pgtest.Connect(t, url)
	var before, after int
	if err := c.QueryRow(t.Context(), count).Scan(&before); err != nil {
		t.Fatal(err)
	}
	open(t, url, store.Schema{{Name: "things"}})
	if err := c.QueryRow(t.Context(), count).Scan(&after); err != nil {
		t.Fatal(err)
	}
	if before != after || before < 8 {
		t.Errorf("there were %d tables and indexes, and are %d", before, after)
	}
}

// Two functions with the same schema do not mix their documents, although both have collections of the same name.
func TestSchemaOfAnotherFunction(t *testing.T) {
	url := pgtest.Role(t)
	open(t, url, storetest.Schema)
	_, err := postgres.Open(t.Context(), url, "payments", storetest.Schema[:1])
	if !fault.Is(err, fault.Unavailable) ||
		!strings.Contains(fault.Public(err), "give each function a schema of its own") {
		t.Errorf("got %v", err)
	}
}

// The schema of the URL is used, independent of the session's search_path.
func TestSearchPath(t *testing.T) {
	url := pgtest.Role(t)
	name := pgtest.User(t, url) + "_named"
	pgtest.Exec(t, pgtest.Superuser(t), "CREATE SCHEMA "+name+" AUTHORIZATION "+pgtest.User(t, url))
	t.Cleanup(func() { pgtest.Exec(t, pgtest.Superuser(t), "DROP SCHEMA "+name+" CASCADE") })
	s := open(t, pgtest.Param(t, url, "search_path", name), storetest.Schema)
	commit(t, s, nil, put(thing("a"), 1, `{"n":1}`))
	waitFor(t, url, "SELECT count(*) FROM "+name+".things", 1)
	waitFor(t, url, "SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace", 0)
}

// counter counts the statements of a connection.
type counter struct{ queries, connects atomic.Int64 }

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.queries.Add(1)
	return ctx
}
func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (c *counter) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	c.connects.Add(1)
	return ctx
}
func (c *counter) TraceConnectEnd(context.Context, pgx.TraceConnectEndData) {}

// When nothing is missing, Open uses one connection and one query.
func TestOpenIsOneQuery(t *testing.T) {
	url := pgtest.Role(t)
	open(t, url, storetest.Schema)
	var c counter
	s, err := postgres.OpenTraced(t.Context(), url, "orders", storetest.Schema, &c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if c.connects.Load() != 1 || c.queries.Load() != 1 {
		t.Errorf("got %d connections and %d queries", c.connects.Load(), c.queries.Load())
	}
}

// A pool opens at most four connections, or the number of the URL.
func TestFewConnections(t *testing.T) {
	for param, want := range map[string]int64{"": 4, "2": 2} {
		url := pgtest.Role(t)
		if param != "" {
			url = pgtest.Param(t, url, "pool_max_conns", param)
		}
		open(t, url, storetest.Schema)
		var c counter
		s, err := postgres.OpenTraced(t.Context(), url, "orders", storetest.Schema, &c)
		if err != nil {
			t.Fatal(err)
		}
		var running sync.WaitGroup
		for i := range 20 {
			running.Go(func() { commit(t, s, nil, put(thing(fmt.Sprint(i)), 1, `{}`)) })
		}
		running.Wait()
		if got := c.connects.Load(); got != want {
			t.Errorf("pool_max_conns %q: got %d connections", param, got)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
