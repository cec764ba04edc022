package sqlite_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/sqlite"
	"github.com/ebb-dev/ebb/infra/store/storetest"
)

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	at := func(now func() time.Time) func(t *testing.T, schema store.Schema) store.Driver {
		return func(t *testing.T, schema store.Schema) store.Driver {
			name := strings.NewReplacer("/", "-", " ", "_").Replace(t.Name())
			d, err := sqlite.OpenAt(filepath.Join(dir, name), schema, now)
			if err != nil {
				t.Error(err)
				return nil
			}
			return d
		}
	}
	later := func() time.Time { return time.Now().Add(store.MarkRetention + time.Hour) }
	storetest.Run(t, storetest.Harness{
		New: at(time.Now), Reopen: at(time.Now), Later: at(later),
		Marks: func(t *testing.T, d store.Driver) int { return d.(*sqlite.Store).Marks(t) },
	})
}

// Many may open a missing file concurrently; one creates it and all can use it.
func TestOpenNewFileTogether(t *testing.T) {
	dir := t.TempDir()
	for round := range 10 {
		path := filepath.Join(dir, fmt.Sprint(round, ".db"))
		var running sync.WaitGroup
		for range 8 {
			running.Go(func() {
				s, err := sqlite.Open(t.Context(), path, storetest.Schema)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := s.Get(t.Context(), store.Key{Collection: "things", ID: "a"}); err != nil {
					t.Error(err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
	}
}
