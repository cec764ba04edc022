package sqlite_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/sqlite"
	"github.com/ebb-dev/ebb/infra/store/storetest"
)

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	open := func(t *testing.T, schema store.Schema) store.Driver {
		name := strings.NewReplacer("/", "-", " ", "_").Replace(t.Name())
		d, err := sqlite.Open(t.Context(), filepath.Join(dir, name), schema)
		if err != nil {
			t.Error(err)
			return nil
		}
		return d
	}
	storetest.Run(t, storetest.Harness{New: open, Reopen: open})
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
