package open_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/open"
	"github.com/ebb-dev/ebb/infra/store/postgres/pgtest"
)

// Each kind of URL opens a store that keeps what it is given.
func TestByURL(t *testing.T) {
	for name, url := range map[string]func(*testing.T) string{
		"memory":   func(*testing.T) string { return "memory:" },
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "data") },
		"postgres": func(t *testing.T) string { return pgtest.Role(t) },
	} {
		t.Run(name, func(t *testing.T) {
			opener, err := open.ByURL(url(t))
			if err != nil {
				t.Fatal(err)
			}
			db, err := opener(t.Context(), "things", store.Schema{{Name: "things"}})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			key := store.Key{Collection: "things", ID: "a"}
			if err := db.Commit(t.Context(), store.Batch{Mutations: []store.Mutation{{Key: key, Version: 1, Data: []byte(`{"n":1}`)}}}); err != nil {
				t.Fatal(err)
			}
			if docs, err := db.Get(t.Context(), key); err != nil || docs[0].Version != 1 {
				t.Errorf("got %v, %v", docs, err)
			}
		})
	}
}

// What cannot be right is refused at once, in words, and without what may be a password.
func TestWrong(t *testing.T) {
	for url, want := range map[string]string{
		"":                                "scheme",
		"memory:x":                        "memory:",
		"sqlite:":                         "folder",
		"postgre://shop:hunter2@db/shop":  "postgres",
		"postgres://shop:hunter2@/":       "",
		"postgres://shop:hunter2@db:x/ab": "",
		"firestore://":                    "firestore",
		"mysql://shop:hunter2@db/shop":    "postgres",
	} {
		_, err := open.ByURL(url)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v", url, err)
		}
	}
}
