package firestore

import (
	"time"

	"github.com/ebb-dev/ebb/infra/store"
)

// sight is a version of a document that this handle read or wrote, and its update time, so that a commit can use that
// as a precondition without a read; version 0: of a mark. A missing or old one costs a read and is never wrong,
// because Firestore checks it.
type sight struct {
	version int64
	last    int64 // of a mark
	updated time.Time
}

// updates returns the update times of the required versions; ok is false when one was not seen. A document that must be
// missing has none, or that of its mark when the changes create it above that.
func (s *Store) updates(preconditions []store.Precondition, changes []change) (at map[store.Key]time.Time, ok bool) {
	at = make(map[store.Key]time.Time, len(preconditions))
	for _, p := range preconditions {
		known, _ := s.seen.Get(p.Key)
		if known.version != p.Version {
			if p.Version != 0 {
				return nil, false
			}
			known.updated = time.Time{}
		}
		at[p.Key] = known.updated
	}
	for _, c := range changes {
		known, _ := s.seen.Get(c.Key)
		if c.creates() && known.version == 0 && c.Version <= known.last {
			return nil, false
		}
	}
	return at, true
}
