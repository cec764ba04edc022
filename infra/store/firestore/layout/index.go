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

// OrderedField is a field of an index. Firestore adds the document's name, in the direction of the last field.
type OrderedField struct {
	Path  string `json:"path"`
	Order string `json:"order"` // ASCENDING or DESCENDING
}

// Unindexed is a field without Firestore's automatic indexes.
type Unindexed struct {
	Collection string `json:"collection"`
	Field      string `json:"field"`
}

// Indexes returns the composite indexes for all queries that the schema allows. Firestore has automatic indexes of
// single fields, which serve queries by one field and those that only compare with Equal.
//
// A composite index serves an order only when it ends with the order, in the same direction. A query may order by any
// sequence of a declared index's fields that follows those compared with Equal. So each prefix of two or more of its
// fields needs an index, in both directions.
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

// Exempt returns the fields that no query uses. Firestore would index them too, which makes writes more expensive and,
// for large documents, slower.
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
