package sqlite

import (
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/store"
)

// OpenAt opens a database by another clock.
func OpenAt(path string, schema store.Schema, now func() time.Time) (*Store, error) {
	return openAt(path, schema, now)
}

// Marks returns the number of marks of deleted documents.
func (s *Store) Marks(t *testing.T) int {
	c, err := s.reads.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.reads.give(c)
	found, err := c.texts("SELECT id FROM ebb_deleted WHERE collection <> ?", "")
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}
