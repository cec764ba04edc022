package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/postgres"
	"github.com/ebb-dev/ebb/infra/store/postgres/pgtest"
)

// The benchmarks are those of package sqlite, with the server on the same machine:
//
//	go test -run '^$' -bench . ./infra/store/sqlite ./infra/store/postgres

var benchSchema = store.Schema{{Name: "plain"}, {Name: "indexed", Indexes: []store.Index{store.On("state", "at")}}}

// BenchmarkCommit measures commits of four writes of about 400 bytes each; an operation is one commit.
func BenchmarkCommit(b *testing.B) {
	for _, collection := range []string{"plain", "indexed"} {
		for _, callers := range []int{1, 32} {
			b.Run(fmt.Sprintf("%s/%dcallers", collection, callers), func(b *testing.B) {
				benchmarkCommit(b, collection, callers)
			})
		}
	}
}

func benchmarkCommit(b *testing.B, collection string, callers int) {
	s := openBench(b)
	var next atomic.Int64
	var running sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range callers {
		running.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				if err := s.Commit(b.Context(), benchBatch(collection, n)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

// benchBatch returns a batch that writes three new documents and an existing one.
func benchBatch(collection string, n int64) store.Batch {
	var batch store.Batch
	for i := range int64(4) {
		id := fmt.Sprintf("%016x-%d", n, i)
		if i == 3 {
			id = fmt.Sprintf("again-%d", n%1000)
		}
		batch.Mutations = append(batch.Mutations, store.Mutation{
			Key: store.Key{Collection: collection, ID: id}, Version: n, Data: benchData(n),
		})
	}
	return batch
}

var benchText = `{"text":"` + strings.Repeat("x", 360) + `","state":"pending","at":`

func benchData(n int64) []byte { return fmt.Appendf(nil, "%s%d}", benchText, n) }

// BenchmarkGet measures reads of one document, from one caller and from as many as there are cores.
func BenchmarkGet(b *testing.B) {
	s := openBench(b)
	for n := range int64(1000) {
		if err := s.Commit(b.Context(), benchBatch("plain", n)); err != nil {
			b.Fatal(err)
		}
	}
	get := func(n int) {
		docs, err := s.Get(b.Context(), store.Key{Collection: "plain", ID: fmt.Sprintf("%016x-0", n%1000)})
		if err != nil || docs[0].Version == 0 && n%1000 != 0 {
			b.Error("cannot read back:", docs, err)
		}
	}
	b.Run("1caller", func(b *testing.B) {
		for n := range b.N {
			get(n)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(p *testing.PB) {
			for n := 0; p.Next(); n++ {
				get(n)
			}
		})
	})
}

// BenchmarkOpen measures the part of a cold start: opening an existing database, one read, and closing it; and for
// comparison PostgreSQL's part of it: a connection and an empty query.
func BenchmarkOpen(b *testing.B) {
	url := pgtest.Role(b)
	get := func(s *postgres.Store, err error) {
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Get(b.Context(), store.Key{Collection: "plain", ID: "x"}); err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	get(postgres.Open(b.Context(), url, "bench", benchSchema))
	b.Run("store", func(b *testing.B) {
		for b.Loop() {
			get(postgres.Open(b.Context(), url, "bench", benchSchema))
		}
	})
	b.Run("connection", func(b *testing.B) {
		for b.Loop() {
			pgtest.Exec(b, url, "SELECT 1")
		}
	})
	b.Run("new", func(b *testing.B) { // with every table and index to be created
		for b.Loop() {
			b.StopTimer()
			url := pgtest.Role(b)
			b.StartTimer()
			get(postgres.Open(b.Context(), url, "bench", benchSchema))
		}
	})
}

func openBench(b *testing.B) *postgres.Store {
	b.Helper()
	s, err := postgres.Open(context.Background(), pgtest.Role(b), "bench", benchSchema)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}
