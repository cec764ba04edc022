package sqlite_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/sqlite"
)

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

// BenchmarkOpen measures the part of a cold start: opening an existing database, one read, and closing it.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "bench.db")
	for b.Loop() {
		s, err := sqlite.Open(b.Context(), path, benchSchema)
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
}

func openBench(b *testing.B) *sqlite.Store {
	b.Helper()
	s, err := sqlite.Open(context.Background(), filepath.Join(b.TempDir(), "bench.db"), benchSchema)
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
