package generate

import (
	"github.com/ebb-dev/ebb/infra/manifest"
	"github.com/ebb-dev/ebb/infra/store/firestore/layout"
)

// deployed is a manifest with its hash, which a function is deployed with and compares with its own, and with the
// indexes that a Firestore database needs.
type deployed struct {
	manifest.Function
	Hash string `json:"hash"`
	// Each is a google_firestore_index, which is composite.
	Indexes []layout.Index `json:"firestore_indexes,omitempty"`
	// Each is a google_firestore_field with an empty index_config.
	Unindexed []layout.Unindexed `json:"firestore_unindexed,omitempty"`
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
