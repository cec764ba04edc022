package function

import (
	"strconv"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/store"
)

// sequence returns the version that the unit of work gives to the entity with this id, as a deletion does too; 0: it
// does not write the entity.
func (tx *Tx) sequence(id string) (version int64, err error) {
	in := ""
	for _, spec := range tx.f.schema {
		if !tx.f.hasEntities(spec) {
			continue
		}
		v := tx.db.Written(store.Key{Collection: spec.Name, ID: id})
		if v > 0 && version > 0 {
			return 0, fault.New(fault.Internal, "%q is an entity of %s and of %s; the ids of two collections must differ",
				id, in, spec.Name)
		}
		if v > 0 {
			version, in = v, spec.Name
		}
	}
	return version, nil
}

// hasEntities reports whether the documents of a collection are the function's entities: those that are declared with
// store.Entity, or those of the only collection of a function.
func (f *Function) hasEntities(spec store.Spec) bool { return spec.Entity || len(f.schema) == 1 }

// Revision orders what is known of an entity: a consumer that stores it with what an event told never goes backwards,
// in whatever order events arrive. Embed it in the document.
type Revision struct {
	Sequence int64     `json:"sequence,omitempty"` // the entity's version, see store.Entity; 0: the event has none
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
