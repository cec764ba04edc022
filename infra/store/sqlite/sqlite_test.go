package sqlite_test

import (
	"path/filepath"
	"strings"
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
