package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/postgres"
	"github.com/ebb-dev/ebb/infra/store/postgres/pgtest"
)

var killSchema = store.Schema{{Name: "things", Indexes: []store.Index{store.On("writer", "n")}}}

const writers = 6

// killBatch returns a batch that writes two new documents and a counter.
func killBatch(w, n int) store.Batch {
	data := fmt.Appendf(nil, `{"writer":%d,"n":%d}`, w, n)
	var b store.Batch
	for _, k := range killKeys(w, n) {
		b.Mutations = append(b.Mutations, store.Mutation{Key: k, Version: int64(n) + 1, Data: data})
	}
	b.Preconditions = []store.Precondition{at(b.Mutations[2].Key, int64(n)), at(b.Mutations[0].Key, 0)}
	return b
}

func killKeys(w, n int) []store.Key {
	return []store.Key{
		thing(fmt.Sprintf("%d-%d-a", w, n)), thing(fmt.Sprintf("%d-%d-b", w, n)), thing(fmt.Sprint("counter-", w)),
	}
}

// write commits numbered batches until ctx ends. It returns how many were acknowledged, or found committed after an
// unknown result. A broken connection may cause only Unavailable, and Conflict after an unknown result.
func write(ctx context.Context, t *testing.T, s *postgres.Store, w int, acknowledged chan<- struct{}) (n int) {
	unknown := false
	for ctx.Err() == nil {
		err := s.Commit(t.Context(), killBatch(w, n))
		switch {
		case err == nil:
			n++
			unknown = false
			select {
			case acknowledged <- struct{}{}: // the test counts them
			default:
			}
			continue
		case fault.Is(err, fault.Unavailable):
			unknown = true
		case !fault.Is(err, fault.Conflict) || !unknown:
			t.Errorf("writer %d, batch %d: %v", w, n, err)
			return n
		}
		docs, err := s.Get(t.Context(), killKeys(w, n)[2])
		for ; err != nil; docs, err = s.Get(t.Context(), killKeys(w, n)[2]) {
			if !fault.Is(err, fault.Unavailable) {
				t.Errorf("writer %d: %v", w, err)
				return n
			}
			time.Sleep(5 * time.Millisecond)
		}
		switch docs[0].Version {
		case int64(n) + 1:
			n++
		case int64(n):
		default:
			t.Errorf("writer %d: the counter is at %d after %d batches", w, docs[0].Version, n)
			return n
		}
	}
	return n
}

// writeWhile runs several writers while do disturbs the server, and then checks the documents. do calls more to wait
// for further acknowledged batches.
func writeWhile(t *testing.T, url string, do func(more func(batches int))) {
	t.Helper()
	s, err := postgres.Open(t.Context(), url, "orders", killSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	ctx, stop := context.WithCancel(t.Context())
	var acknowledged [writers]int
	one, ended := make(chan struct{}), make(chan struct{})
	var running sync.WaitGroup
	for w := range writers {
		running.Go(func() { acknowledged[w] = write(ctx, t, s, w, one) })
	}
	go func() {
		running.Wait()
		close(ended)
	}()
	do(func(batches int) {
		for range batches {
			select {
			case <-one:
			case <-ended: // every writer has failed
			}
		}
	})
	stop()
	<-ended
	total := 0
	for w, n := range acknowledged {
		total += n
		checkWriter(t, s, w, n)
	}
	if t.Logf("%d batches", total); total < 20 {
		t.Error("too few to tell anything")
	}
}

func checkWriter(t *testing.T, s *postgres.Store, w, batches int) {
	t.Helper()
	for n := range batches + 1 {
		docs, err := s.Get(t.Context(), killKeys(w, n)[:2]...)
		if err != nil {
			t.Fatal(err)
		}
		present := 0
		for _, d := range docs {
			if d.Version > 0 {
				present++
			}
		}
		if n < batches && present != 2 || n == batches && present == 1 {
			t.Errorf("batch %d of %d of writer %d has %d of 2 documents", n, batches, w, present)
		}
	}
	if batches == 0 {
		return
	}
	docs, _, err := s.Query(t.Context(), store.Query{Collection: "things", Limit: 3,
		Where: []store.Filter{{
			Field: "writer", Op: store.Equal, Value: int64(w),
		}}, Order: []store.Order{{Field: "n", Desc: true}}})
	if err != nil || len(docs) != 3 || docs[0].Version < int64(batches) {
		t.Errorf("the index of writer %d says %v, %v", w, docs, err)
	}
}

// Connections are broken during commits, repeatedly: no acknowledged batch is lost, and none is applied in part.
func TestCutConnections(t *testing.T) {
	url := pgtest.Role(t)
	superuser := pgtest.Connect(t, pgtest.Superuser(t))
	cut := 0
	writeWhile(t, url, func(more func(int)) {
		for cut < 30 {
			more(4)
			// Only connections that run a statement just now.
			var one int
			err := superuser.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM
				(SELECT pid FROM pg_stat_activity WHERE usename = $1 AND application_name = 'ebb orders' AND state = 'active'
				ORDER BY random() LIMIT 1) busy`,
				pgtest.User(t, url)).Scan(&one)
			if cut += one; err != nil {
				t.Error(err)
				return
			}
		}
	})
	t.Logf("%d connections cut", cut)
}

// The same when the server crashes and replays its log.
func TestServerCrashes(t *testing.T) {
	server := pgtest.New(t)
	writeWhile(t, pgtest.RoleOf(t, server.URL), func(more func(int)) {
		for range 4 {
			more(500)
			server.Stop(t, syscall.SIGQUIT)
			server.Start(t)
		}
		more(500)
	})
}
