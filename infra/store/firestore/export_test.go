package firestore

import (
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/ebb-dev/ebb/infra/store/firestore/layout"
)

// With adds options of the connection.
func (c Config) With(options ...grpc.DialOption) Config {
	c.options = options
	return c
}

// SetLag changes lag until restore is called.
func SetLag(d time.Duration) (restore func()) {
	before := lag
	lag = d
	return func() { lag = before }
}

// SetPruneEvery changes pruneEvery until restore is called.
func SetPruneEvery(n int64) (restore func()) {
	before := pruneEvery
	pruneEvery = n
	return func() { pruneEvery = before }
}

// SetNow sets the clock that dates marks.
func (s *Store) SetNow(now func() time.Time) { s.now.Store(&now) }

// Marks returns the number of marks of deleted documents.
func (s *Store) Marks(t *testing.T) (n int) {
	for _, spec := range s.schema {
		c, err := s.collection(spec.Name)
		if err != nil {
			t.Fatal(err)
		}
		snaps, err := c.Where(layout.Deleted, ">", time.Time{}).Documents(t.Context()).GetAll()
		if err != nil {
			t.Fatal(err)
		}
		n += len(snaps)
	}
	return n
}

// MaxDocument is the size of the largest document, by Firestore's rules.
const MaxDocument = maxDocument
