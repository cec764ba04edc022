// Package generate derives documents from the declarations of functions: OpenAPI for their operations, AsyncAPI for
// their events, and the input of the Terraform modules.
//
// The same declarations give the same bytes, so that a check can tell whether a committed file is stale.
package generate

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"

	"github.com/ebb-dev/ebb/infra/manifest"
)

// Version is the version of the documents, and of the interfaces that they describe.
const Version = "1.0.0"

// object is a JSON object; encoding sorts its keys.
type object = map[string]any

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.Bytes(), err
}

// Product is how documents name the product that they describe.
type Product struct {
	Title   string // "Helpdesk"; empty: "Functions"
	License string // SPDX identifier; empty: the documents name none
}

// info returns the information object of a document; the member where tells where the license is.
func (p Product) info(description, where, license string) object {
	info := object{"title": cmp.Or(p.Title, "Functions"), "version": Version, "description": description}
	if p.License != "" {
		info["license"] = object{"name": p.License, where: license}
	}
	return info
}

// Terraform returns the input of the Terraform modules: every function's manifest by its name with the indexes of its
// database, and the event types that triggers may filter on.
func Terraform(system manifest.System) ([]byte, error) {
	all, err := deploy(system)
	if err != nil {
		return nil, err
	}
	types := []string{}
	for _, info := range system.Types().All() {
		types = append(types, info.Name)
	}
	return encode(object{"functions": all, "event_types": types})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
