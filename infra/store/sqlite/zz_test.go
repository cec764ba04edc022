package sqlite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/sqlite"
)

func TestZZTail(t *testing.T) {
	s, _ := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "x.db"), benchSchema)
	defer s.Close()
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	for c := range 32 {
		wg.Go(func() {
			for n := range 1500 {
				at := time.Now()
				s.Commit(t.Context(), benchBatch("plain", int64(n*32+c)))
				d := time.Since(at)
				mu.Lock()
				all = append(all, d)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(all)
	at := time.Now()
	s.Close()
	fmt.Println("p50", all[len(all)/2], "p99", all[len(all)*99/100], "p999", all[len(all)*999/1000], "max", all[len(all)-1], "close", time.Since(at))
}

func TestZZMemory(t *testing.T) {
	var open []*sqlite.Store
	for i := range 10 {
		s, _ := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "x.db"), benchSchema)
		open = append(open, s)
		var wg sync.WaitGroup
		for c := range 8 {
			wg.Go(func() {
				for n := range 400 {
					s.Commit(t.Context(), benchBatch("indexed", int64(n*8+c)))
					s.Get(t.Context(), store.Key{Collection: "indexed", ID: fmt.Sprintf("%016x-0", n*8+c)})
					s.Query(t.Context(), store.Query{Collection: "indexed", Limit: 100, Order: []store.Order{{Field: "state"}}})
				}
			})
		}
		wg.Wait()
		text, _ := os.ReadFile("/proc/self/status")
		for _, l := range strings.Split(string(text), "\n") {
			if strings.HasPrefix(l, "VmRSS") {
				fmt.Println(i, l)
			}
		}
	}
	for _, s := range open {
		s.Close()
	}
}
