package firestore_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/firestore"
)

// BenchmarkOpen measures the part of a cold start, without a network: opening a handle, and until the database has
// answered.
func BenchmarkOpen(b *testing.B) {
	needEmulator(b)
	for name, ready := range map[string]bool{"handle": false, "ready": true} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				s, err := firestore.Open(b.Context(), databaseOf(b), indexed)
				if err != nil {
					b.Fatal(err)
				}
				if ready {
					if err := s.Ready(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkUnit measures units of work that read and write three documents of about 400 bytes, from as many callers as
// cores.
func BenchmarkUnit(b *testing.B) {
	s := open(b, indexed)
	items := store.NewCollection[struct {
		N    int
		Text string
	}]("things")
	text := strings.Repeat("x", 360)
	var next atomic.Int64
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			n := next.Add(1)
			tx := store.Begin(s)
			for i := range 3 {
				id := fmt.Sprint(n, " ", i)
				v, _, err := items.Find(b.Context(), tx, id)
				if err == nil {
					v.N, v.Text = v.N+1, text
					err = items.Put(b.Context(), tx, id, v)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
			if err := tx.Commit(b.Context()); err != nil {
				b.Error(err)
			}
		}
	})
	if err := s.Close(); err != nil {
		b.Error(err)
	}
}
