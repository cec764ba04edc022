package dynamodb

import "github.com/ebb-dev/ebb/infra/store"

// sight is what this handle has read or written of a document, a mark or a missing item, so that a commit knows its
// rows without a read. A missing or old one costs a read and is never wrong, because the unique attribute is a
// condition of the commit.
type sight struct {
	version int64
	last    int64
	unique  string // "": the item is missing
	layout  int64
	rows    []itemKey
}

// sight returns what an item tells. Rows that are too long for the table are none that it has.
func (s *Store) sight(k store.Key, it item) sight {
	at := sight{version: it.version, last: it.last, unique: it.unique, layout: it.layout}
	if it.version > 0 {
		at.rows, _ = rowsOfDocument(k.Collection, s.state(k.Collection).Indexes, []byte(it.data), k.ID)
	}
	return at
}
