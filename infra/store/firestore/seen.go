package firestore

import (
	"sync"
	"time"

	"github.com/ebb-dev/ebb/infra/store"
)

// remembered is the most documents of one generation of seen.
const remembered = 2048

// seen caches the update times of the documents that this handle read or wrote last, so that a commit can use them as
// preconditions without a read. A missing or old entry costs a read and is never wrong, because Firestore checks it.
type seen struct {
	mu         sync.Mutex
	young, old map[store.Key]sight
}

// sight is a version of a document and its update time; version 0: of a mark.
type sight struct {
	version int64
	last    int64 // of a mark
	updated time.Time
}

func newSeen() *seen { return &seen{young: map[store.Key]sight{}} }

func (s *seen) add(k store.Key, version int64, updated time.Time) {
	s.put(k, sight{version, 0, updated})
}

// addMark notes a mark.
func (s *seen) addMark(k store.Key, last int64, updated time.Time) { s.put(k, sight{0, last, updated}) }

func (s *seen) put(k store.Key, at sight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.young) == remembered {
		s.old, s.young = s.young, map[store.Key]sight{}
	}
	s.young[k] = at
}

// at returns the update times of the required versions; ok is false when one is not cached. A document that must be
// missing has none, or that of its mark when the changes create it above that.
func (s *seen) at(preconditions []store.Precondition, changes []change) (updates map[store.Key]time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	updates = make(map[store.Key]time.Time, len(preconditions))
	for _, p := range preconditions {
		known, there := s.young[p.Key]
		if !there {
			known = s.old[p.Key]
		}
		if known.version != p.Version {
			if p.Version != 0 {
				return nil, false
			}
			known.updated = time.Time{}
		}
		updates[p.Key] = known.updated
	}
	for _, c := range changes {
		known, there := s.young[c.Key]
		if !there {
			known = s.old[c.Key]
		}
		if c.creates() && known.version == 0 && c.Version <= known.last {
			return nil, false
		}
	}
	return updates, true
}
