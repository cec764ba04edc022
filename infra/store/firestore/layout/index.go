package layout

import (
	"slices"

	"github.com/ebb-dev/ebb/infra/store"
)

// Index is a composite index of Firestore.
type Index struct {
	Collection string         `json:"collection"`
	Fields     []OrderedField `json:"fields"`
}

// OrderedField is a field of an index. Firestore adds the document's name, in the direction of the last one.
type OrderedField struct {
	Path  string `json:"path"`
	Order string `json:"order"` // ASCENDING or DESCENDING
}

// Unindexed is a field for which Firestore shall not keep the indexes that it makes by itself.
type Unindexed struct {
	Collection string `json:"collection"`
	Field      string `json:"field"`
}

// Indexes are the composite indexes that all queries need which the schema allows. Firestore makes those of single fields by
// itself, and they serve queries by one field and those that only compare with Equal.
//
// An index of Firestore serves an order only if it ends with it and runs in its direction. Queries may be in the order of any
// run of a declared index's fields that begins behind those compared with Equal, so that every beginning of two or more of its
// fields is an index here, in both directions.
func Indexes(schema store.Schema) (all []Index, err error) {
	for _, spec := range schema {
		name, err := Collection(spec.Name)
		if err != nil {
			return nil, err
		}
		var done [][]string
		for _, i := range spec.Indexes {
			for n := 2; n <= len(i.Fields); n++ {
				fields := i.Fields[:n]
				if slices.ContainsFunc(done, func(d []string) bool { return slices.Equal(d, fields) }) {
					continue
				}
				done = append(done, fields)
				all = append(all, index(name, fields, "ASCENDING"), index(name, fields, "DESCENDING"))
			}
		}
	}
	return all, nil
}

func index(collection string, fields []string, order string) Index {
	i := Index{Collection: collection}
	for _, path := range fields {
		i.Fields = append(i.Fields, OrderedField{Path(path), order})
	}
	return i
}

// Exempt are the fields that no query looks at. Firestore would index them nevertheless, which makes writes dearer and, of
// large documents, slower.
func Exempt(schema store.Schema) (all []Unindexed, err error) {
	for _, spec := range schema {
		name, err := Collection(spec.Name)
		if err != nil {
			return nil, err
		}
		all = append(all, Unindexed{name, Data}, Unindexed{name, Version})
	}
	return all, nil
}
