package dynamodb

import (
	"sync"

	"github.com/ebb-dev/ebb/infra/store"
)

// remembered is the most documents of one generation of seen.
const remembered = 2048

// seen caches what this handle has read or written of documents, so that a commit knows their rows without a read. A
// missing or old entry costs a read and is never wrong, because the unique attribute is a condition of the commit.
type seen struct {
	mu         sync.Mutex
	young, old map[store.Key]sight
}

// sight is what is known of a document, a mark or a missing item.
type sight struct {
	version int64
	last    int64
	unique  string // "": the item is missing
	layout  int64
	rows    []itemKey
}

func newSeen() *seen { return &seen{young: map[store.Key]sight{}} }

func (s *seen) put(k store.Key, at sight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.young) >= remembered {
		s.old, s.young = s.young, map[store.Key]sight{}
	}
	s.young[k] = at
}

func (s *seen) drop(k store.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.young, k)
	delete(s.old, k)
}

func (s *seen) get(k store.Key) (at sight, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok = s.young[k]; !ok {
		at, ok = s.old[k]
	}
	return at, ok
}

// sight returns what an item tells. Rows that are too long for the table are none that it has.
func (s *Store) sight(k store.Key, it item) sight {
	at := sight{version: it.version, last: it.last, unique: it.unique, layout: it.layout}
	if it.version > 0 {
		at.rows, _ = rowsOfDocument(k.Collection, s.state(k.Collection).Indexes, []byte(it.data), k.ID)
	}
	return at
}
