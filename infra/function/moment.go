package function

import (
	"strconv"
	"time"
)

// Moment says which of two words about an entity is the newer one: a consumer that keeps it with what
// it has learnt never goes backwards, whatever order events come in. Embed it in the document.
type Moment struct {
	Sequence int64     `json:"sequence,omitempty"` // the entity's version; 0: the event did not say
	At       time.Time `json:"at,omitzero"`
}

// Life is the Moment of an entity that can be deleted, and whether it is. Embed it in the document instead.
type Life struct {
	Moment
	Deleted bool `json:"deleted,omitempty"`
}

// Precedes reports whether next is to be taken after l. Deleted stays deleted, whenever the other word was said.
func (l Life) Precedes(next Life) bool {
	if l.Deleted != next.Deleted {
		return next.Deleted
	}
	return l.Moment.Precedes(next.Moment)
}

// Moment is that of the event being handled.
func (tx *Tx) Moment() Moment {
	sequence, _ := strconv.ParseInt(extension(tx.cause, Sequence), 10, 64) // none: 0
	return Moment{Sequence: sequence, At: tx.cause.Time().UTC()}
}

// Precedes reports whether next is to be taken after m: by the sequence, and where one of the
// two has none or both have the same, unless next is of an earlier time.
func (m Moment) Precedes(next Moment) bool {
	if m.Sequence != next.Sequence && m.Sequence > 0 && next.Sequence > 0 {
		return m.Sequence < next.Sequence
	}
	return !next.At.Before(m.At)
}
