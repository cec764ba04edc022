package flag

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/ebb-dev/ebb/infra/fault"
)

// ParseFile returns the definitions of the flags of a file in flagd's JSON, by key. A targeting that refers to one of
// the file's $evaluators has it in place of the reference, so that each definition stands alone. The error is
// fault.Invalid.
func ParseFile(data []byte) (map[string]json.RawMessage, error) {
	var file struct {
		Schema     string                    `json:"$schema"`
		Flags      map[string]map[string]any `json:"flags"`
		Evaluators map[string]any            `json:"$evaluators"`
		Metadata   map[string]any            `json:"metadata"`
	}
	if err := decode(data, &file); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "invalid file: %v", err)
	}
	all := make(map[string]json.RawMessage, len(file.Flags))
	r := resolver{evaluators: file.Evaluators, left: maxNodes}
	for _, key := range slices.Sorted(maps.Keys(file.Flags)) {
		d := file.Flags[key]
		var err error
		if d["targeting"], err = r.resolve(d["targeting"], 0); err == nil {
			err = CheckKey(key)
		}
		if err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "the flag %s: %s", key, fault.Public(err))
		}
		if d["targeting"] == nil {
			delete(d, "targeting")
		}
		if len(file.Metadata) > 0 {
			own, _ := d["metadata"].(map[string]any)
			merged := maps.Clone(file.Metadata)
			maps.Copy(merged, own)
			d["metadata"] = merged
		}
		if all[key], err = json.Marshal(d); err == nil {
			_, err = Parse(all[key])
		}
		if err != nil {
			return nil, fault.Wrap(err, fault.Invalid, "the flag %s: %s", key, fault.Public(err)).
				With(fault.DetailsOf(err)...)
		}
	}
	return all, nil
}

// maxNodes is how many values the targetings of a file have at most: references to references grow quickly.
const maxNodes = 100_000

// resolver puts evaluators in the place of references.
type resolver struct {
	evaluators map[string]any
	left       int // how many values it may still write
}

// resolve returns the rule with the evaluators in place of the references to them.
func (r *resolver) resolve(rule any, depth int) (any, error) {
	if r.left--; depth > maxDepth || r.left < 0 {
		return nil, fault.New(fault.Invalid, "the targeting is too large, or an evaluator refers to itself")
	}
	var err error
	switch rule := rule.(type) {
	case []any:
		rule = slices.Clone(rule)
		for i := range rule {
			if rule[i], err = r.resolve(rule[i], depth+1); err != nil {
				return nil, err
			}
		}
		return rule, nil
	case map[string]any:
		if name, ok := rule["$ref"].(string); ok && len(rule) == 1 {
			name = strings.TrimPrefix(name, "#/$evaluators/")
			named, known := r.evaluators[name]
			if !known {
				return nil, fault.New(fault.Invalid, "unknown evaluator %q", name)
			}
			return r.resolve(named, depth+1)
		}
		rule = maps.Clone(rule)
		for name := range rule {
			if rule[name], err = r.resolve(rule[name], depth+1); err != nil {
				return nil, err
			}
		}
		return rule, nil
	}
	return rule, nil
}
