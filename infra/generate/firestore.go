package generate

import (
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/store/firestore/layout"
)

// deployed is a manifest with its hash, which a function is deployed with and compares with its own, and with what a Firestore
// database needs for it.
type deployed struct {
	manifest.Function
	Hash      string             `json:"hash"`
	Indexes   []layout.Index     `json:"firestore_indexes,omitempty"`   // composite ones, a google_firestore_index each
	Unindexed []layout.Unindexed `json:"firestore_unindexed,omitempty"` // a google_firestore_field with an empty index_config each
}

func deploy(system manifest.System) (map[string]deployed, error) {
	all := map[string]deployed{}
	for _, d := range system.Functions {
		indexes, err := layout.Indexes(d.Schema)
		if err != nil {
			return nil, err
		}
		unindexed, err := layout.Exempt(d.Schema)
		if err != nil {
			return nil, err
		}
		all[d.Name] = deployed{d.Function, d.Hash(), indexes, unindexed}
	}
	return all, nil
}
