package generate

import (
	"github.com/ebb-dev/ebb/infra/function"
	"github.com/ebb-dev/ebb/infra/store/firestore/layout"
)

// deployed is a manifest with its hash, which a function is deployed with and compares with its own, and with what a Firestore
// database needs for it.
type deployed struct {
	function.Manifest
	Hash      string             `json:"hash"`
	Indexes   []layout.Index     `json:"firestore_indexes,omitempty"`   // composite ones, a google_firestore_index each
	Unindexed []layout.Unindexed `json:"firestore_unindexed,omitempty"` // a google_firestore_field with an empty index_config each
}

func deploy(functions []*function.Function) (map[string]deployed, error) {
	all := map[string]deployed{}
	for _, f := range functions {
		indexes, err := layout.Indexes(f.Schema())
		if err != nil {
			return nil, err
		}
		unindexed, err := layout.Exempt(f.Schema())
		if err != nil {
			return nil, err
		}
		m := f.Manifest()
		all[f.Name()] = deployed{m, m.Hash(), indexes, unindexed}
	}
	return all, nil
}
