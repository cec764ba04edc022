// Package golden keeps recordings of stored documents in files, so that a test shows when today's code cannot read what
// an older version of a function has stored.
//
// A folder holds one file for each function, FUNCTION.json: for each collection a list of documents, one for each form
// that the documents of the collection have had.
//
//	{"people": [{"revision": 0, "document": {"name": "text"}}, {"revision": 1, "document": {"first": "text"}}]}
//
// A recorded document has every member, and in each integer the largest value that its type holds. So a member that is
// renamed or removed shows, and also an integer that becomes narrower and a number whose digits are lost. A recording
// is never changed; one that was never committed may be removed by hand. Where documents have to change, store.Migrate
// says how; the recordings of earlier revisions have to go through its steps then.
package golden

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/ebb-dev/ebb/infra/store"
)

// recording is a document as a version of the function stored it.
type recording struct {
	Revision int             `json:"revision,omitempty"` // the number of migrations that the collection had
	Document json.RawMessage `json:"document"`
}

// Check compares the collections of a function with its recordings in a folder. Each error names one violation: a
// recorded document that today's code cannot read or of which it loses a member, a collection that is gone, or a form
// of today that is not recorded, which Update adds. A folder or file that does not exist counts as empty.
func Check(dir, function string, schema store.Schema) []error {
	recorded, err := load(dir, function)
	if err != nil {
		return []error{err}
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(recorded)) {
		spec, declared := schema.Spec(name)
		if !declared {
			errs = append(errs, fmt.Errorf("%s: collection %q is not declared any more, and its documents stay", function, name))
			continue
		}
		for n, r := range recorded[name] {
			if err := read(spec, r); err != nil {
				errs = append(errs, fmt.Errorf("%s: a document of %s (recording %d): %w", function, name, n+1, err))
			}
		}
	}
	for _, spec := range schema {
		today, err := sample(spec)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", function, spec.Name, err))
		} else if today != nil && !has(recorded[spec.Name], *today) {
			errs = append(errs, fmt.Errorf("%s: the documents of %s are not recorded in %s; ebb generate adds them",
				function, spec.Name, filepath.ToSlash(dir)))
		}
	}
	return errs
}

// Update records the forms of today that are not recorded, and reports whether it has changed the file.
func Update(dir, function string, schema store.Schema) (written bool, err error) {
	recorded, err := load(dir, function)
	if err != nil {
		return false, err
	}
	for _, spec := range schema {
		today, err := sample(spec)
		if err != nil {
			return false, fmt.Errorf("%s: %s: %w", function, spec.Name, err)
		}
		if today != nil && !has(recorded[spec.Name], *today) {
			recorded[spec.Name], written = append(recorded[spec.Name], *today), true
		}
	}
	if !written {
		return false, nil
	}
	data, err := json.MarshalIndent(recorded, "", "  ")
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, err
	}
	return true, os.WriteFile(path(dir, function), append(data, '\n'), 0o644)
}

func path(dir, function string) string { return filepath.Join(dir, function+".json") }

func load(dir, function string) (map[string][]recording, error) {
	recorded := map[string][]recording{}
	data, err := os.ReadFile(path(dir, function))
	if errors.Is(err, fs.ErrNotExist) {
		return recorded, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &recorded)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path(dir, function), err)
	}
	return recorded, nil
}

func has(recorded []recording, today recording) bool {
	return slices.ContainsFunc(recorded, func(r recording) bool {
		return r.Revision == today.Revision && reflect.DeepEqual(parse(r.Document), parse(today.Document))
	})
}

// parse returns JSON as values whose numbers keep their digits.
func parse(data []byte) (v any) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return nil
	}
	return v
}

// sample returns a document of the collection as today's code stores it; nil for a collection whose type is not known,
// as those of the kit.
func sample(spec store.Spec) (*recording, error) {
	if spec.Type == nil {
		return nil, nil
	}
	data, err := json.Marshal(filled(spec.Type, 0).Interface())
	if err != nil {
		return nil, fmt.Errorf("a document cannot be recorded: %w", err)
	}
	return &recording{Revision: len(spec.Steps), Document: data}, nil
}

// read reports why today's code cannot read a recorded document, or what it loses of it.
func read(spec store.Spec, r recording) error {
	if spec.Type == nil {
		return nil
	}
	document := r.Document
	if r.Revision > 0 {
		members := map[string]any{}
		if err := json.Unmarshal(document, &members); err != nil {
			return err
		}
		document = append([]byte(fmt.Sprintf(`{"_revision":%d,`, r.Revision)), bytes.TrimLeft(document, " {")...)
		if len(members) == 0 {
			document = []byte(fmt.Sprintf(`{"_revision":%d}`, r.Revision))
		}
	}
	key := store.Key{Collection: spec.Name, ID: "recorded"}
	migrated, changed, err := spec.Migrated(store.Document{Key: key, Version: 1, Data: document})
	if err != nil {
		return err
	}
	into := reflect.New(spec.Type)
	if err := json.Unmarshal(migrated, into.Interface()); err != nil {
		return err
	}
	if changed { // what its steps leave out is left out on purpose
		return nil
	}
	again, err := json.Marshal(into.Interface())
	if err != nil {
		return err
	}
	return lost("$", parse(r.Document), parse(again))
}

// lost names the first member of a recorded value that is missing or another one in what today's code stores.
func lost(at string, recorded, today any) error {
	switch recorded := recorded.(type) {
	case map[string]any:
		object, ok := today.(map[string]any)
		if !ok {
			return fmt.Errorf("%s was an object: this needs a store.Migrate", at)
		}
		for _, name := range slices.Sorted(maps.Keys(recorded)) {
			value, ok := object[name]
			if !ok {
				return fmt.Errorf("%s.%s is not read any more: this needs a store.Migrate", at, name)
			}
			if err := lost(at+"."+name, recorded[name], value); err != nil {
				return err
			}
		}
		return nil
	case []any:
		list, ok := today.([]any)
		if !ok || len(list) != len(recorded) {
			return fmt.Errorf("%s was a list of %d: this needs a store.Migrate", at, len(recorded))
		}
		for i := range recorded {
			if err := lost(fmt.Sprintf("%s[%d]", at, i), recorded[i], list[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if !reflect.DeepEqual(recorded, today) {
		return fmt.Errorf("%s was %v and is read as %v: this needs a store.Migrate", at, recorded, today)
	}
	return nil
}
