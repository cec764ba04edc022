// Package generate derives files from what functions declare: OpenAPI for their HTTP side,
// AsyncAPI for their events, and Terraform's input for what they need around them.
//
// The same declarations give the same bytes, so a test can tell whether a committed
// file is stale.
package generate

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/ebb-dev/ebb/events"
	"github.com/ebb-dev/ebb/infra/function"
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

// Manifest is what all functions declare, by name.
func Manifest(functions []*function.Function) map[string]function.Manifest {
	all := map[string]function.Manifest{}
	for _, f := range functions {
		all[f.Name()] = f.Manifest()
	}
	return all
}

// Terraform is the input of the Terraform modules: every function's manifest by its name with the indexes of its
// database, and the event types that triggers may filter on.
func Terraform(functions []*function.Function) ([]byte, error) {
	all, err := deploy(functions)
	if err != nil {
		return nil, err
	}
	types := []string{}
	for _, info := range events.Catalogue() {
		types = append(types, info.Name)
	}
	return encode(object{"functions": all, "event_types": types})
}

func byName(functions []*function.Function) []*function.Function {
	return slices.SortedFunc(slices.Values(functions), func(a, b *function.Function) int {
		return strings.Compare(a.Name(), b.Name())
	})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
