package function

import (
	"strconv"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
)

// Revision orders what is known of an entity: a consumer that stores it with what an event told never goes backwards,
// in whatever order events arrive. Embed it in the document.
type Revision struct {
	Sequence int64     `json:"sequence,omitempty"` // the entity's version; 0: the event has none
	At       time.Time `json:"at,omitzero"`
}

// EntityRevision is the Revision of an entity that can be deleted. Embed it in the document instead.
type EntityRevision struct {
	Revision
	Deleted bool `json:"deleted,omitempty"`
}

// Before reports whether next replaces r. A deleted entity stays deleted, whatever the times are.
func (r EntityRevision) Before(next EntityRevision) bool {
	if r.Deleted != next.Deleted {
		return next.Deleted
	}
	return r.Revision.Before(next.Revision)
}

// Before reports whether next replaces r: by the sequence, and where one of the two has none or both have the same,
// unless next is of an earlier time.
func (r Revision) Before(next Revision) bool {
	if r.Sequence != next.Sequence && r.Sequence > 0 && next.Sequence > 0 {
		return r.Sequence < next.Sequence
	}
	return !next.At.Before(r.At)
}

// Revision returns the revision that the event being handled has of its entity.
func (tx *Tx) Revision() Revision {
	sequence, _ := strconv.ParseInt(event.Extension(tx.cause, event.Sequence), 10, 64) // none: 0
	return Revision{Sequence: sequence, At: tx.cause.Time().UTC()}
}
