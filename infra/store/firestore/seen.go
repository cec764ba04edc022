package firestore

import (
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/store"
)

// remembered is how many documents a generation of seen has.
const remembered = 2048

// seen remembers when the documents that this handle read or wrote last were updated, so that a commit can name that as its
// precondition and needs to read nothing. What is forgotten or out of date costs a read, and is never wrong: Firestore checks it.
type seen struct {
	mu         sync.Mutex
	young, old map[store.Key]sight
}

// sight is a version of a document, and the update that made it.
type sight struct {
	version int64
	updated time.Time
}

func newSeen() *seen { return &seen{young: map[store.Key]sight{}} }

func (s *seen) add(k store.Key, version int64, updated time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.young) == remembered {
		s.old, s.young = s.young, map[store.Key]sight{}
	}
	s.young[k] = sight{version, updated}
}

// at are the updates that made the versions; not ok when one is not known. A document that must be missing has none.
func (s *seen) at(preconditions []store.Precondition) (updates map[store.Key]time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	updates = make(map[store.Key]time.Time, len(preconditions))
	for _, p := range preconditions {
		if p.Version == 0 {
			updates[p.Key] = time.Time{}
			continue
		}
		known, there := s.young[p.Key]
		if !there {
			known = s.old[p.Key]
		}
		if known.version != p.Version {
			return nil, false
		}
		updates[p.Key] = known.updated
	}
	return updates, true
}
