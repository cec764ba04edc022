package golden

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
)

// recording is what a file holds of one type.
type recording struct {
	Schema json.RawMessage            `json:"schema,omitempty"`
	Events map[string]json.RawMessage `json:"events,omitempty"`
}

// recordedType is all that is recorded of one type.
type recordedType struct {
	path    string // of the first file that names the type
	schemas []recordedSchema
	events  []recordedEvent
}

type recordedSchema struct {
	path   string
	schema *event.Schema
}

type recordedEvent struct {
	path  string
	event ce.Event
}

// recordings are by the name of the type.
type recordings map[string]*recordedType

func (r recordings) names() []string { return slices.Sorted(maps.Keys(r)) }

func (r recordings) of(info *event.Info) *recordedType {
	if known := r[info.Name]; known != nil {
		return known
	}
	return &recordedType{}
}

func (r recordings) at(name, path string) *recordedType {
	if r[name] == nil {
		r[name] = &recordedType{path: path}
	}
	return r[name]
}

// paths returns the files with recordings, in a folder or in the folders of types below it.
func paths(dir string) []string {
	flat, _ := filepath.Glob(filepath.Join(dir, "*.json")) // the patterns are well-formed
	folders, _ := filepath.Glob(filepath.Join(dir, "*", "*.json"))
	return append(flat, folders...)
}

// load reads every recording but those that skip names. Each error names the file that cannot be read.
func load(dir string, skip map[string]bool) (recordings, []error) {
	all := recordings{}
	var errs []error
	for _, path := range paths(dir) {
		if skip[path] {
			continue
		}
		if err := all.read(dir, path); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
	}
	return all, errs
}

func (r recordings) read(dir, path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if folder := filepath.Dir(path); folder != filepath.Clean(dir) {
		into := r.at(filepath.Base(folder), folder)
		if strings.HasPrefix(filepath.Base(path), "schema") {
			return into.addSchema(path, raw)
		}
		return into.addEvent(path, raw)
	}
	var file map[string]recording
	if err := json.Unmarshal(raw, &file); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(file)) {
		into := r.at(name, path)
		if schema := file[name].Schema; schema != nil {
			if err := into.addSchema(path, schema); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		for _, example := range slices.Sorted(maps.Keys(file[name].Events)) {
			if err := into.addEvent(path, file[name].Events[example]); err != nil {
				return fmt.Errorf("%s, event %q: %w", name, example, err)
			}
		}
	}
	return nil
}

func (r *recordedType) addSchema(path string, raw []byte) error {
	schema, err := event.ParseSchema(raw)
	if err == nil {
		r.schemas = append(r.schemas, recordedSchema{path, schema})
	}
	return err
}

func (r *recordedType) addEvent(path string, raw []byte) error {
	e, err := event.FromJSON(raw)
	if err == nil {
		err = e.Validate()
	}
	if err == nil {
		r.events = append(r.events, recordedEvent{path, e})
	}
	return err
}

func (r *recordedType) hasSchema(info *event.Info) (bool, error) {
	for _, s := range r.schemas {
		same, err := sameJSON(s.schema, info.Schema)
		if err != nil || same {
			return same, err
		}
	}
	return false, nil
}

func (r *recordedType) hasExample(x event.Example) (bool, error) {
	for _, known := range r.events {
		same, err := sameJSON(json.RawMessage(known.event.Data()), x.Data)
		if err != nil || same {
			return same, err
		}
	}
	return false, nil
}

// lacks returns what is not recorded of a type yet; ok is false if everything is.
func (r *recordedType) lacks(info *event.Info) (missing recording, ok bool, err error) {
	has, err := r.hasSchema(info)
	if err == nil && !has {
		missing.Schema, err = json.Marshal(info.Schema)
	}
	if err != nil {
		return missing, false, err
	}
	for i, x := range info.Examples {
		has, err := r.hasExample(x)
		if err != nil {
			return missing, false, err
		}
		if has {
			continue
		}
		e, err := example(info, x, i)
		if err != nil {
			return missing, false, err
		}
		raw, err := json.Marshal(e)
		if err != nil {
			return missing, false, err
		}
		if missing.Events == nil {
			missing.Events = map[string]json.RawMessage{}
		}
		missing.Events[x.Name] = raw
	}
	return missing, missing.Schema != nil || missing.Events != nil, nil
}

// example returns an example as a complete event. Its attributes are fixed, so that the same code writes the same file.
func example(info *event.Info, x event.Example, number int) (ce.Event, error) {
	id := fmt.Sprintf("01920000-0000-7000-9000-%012d", number)
	e := ce.New()
	e.SetID(id)
	e.SetSource("/functions/" + info.Function)
	e.SetType(info.Name)
	e.SetSubject("01920000-0000-7000-8000-000000000003")
	e.SetTime(time.Date(2025, time.January, 2, 3, 4, 5, 0, time.UTC))
	e.SetDataSchema(info.DataSchema)
	e.SetExtension(event.PartitionKey, e.Subject())
	e.SetExtension(event.Sequence, "00000000000000000001")
	e.SetExtension(event.CorrelationID, id)
	e.SetExtension(event.CausationID, id)
	e.SetExtension(event.TraceParent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	raw, err := event.Draft{Info: info, Data: x.Data}.Encode()
	if err != nil {
		return e, err
	}
	return e, e.SetData(event.ContentType, raw)
}

func sameJSON(a, b any) (bool, error) {
	x, err := plain(a)
	if err != nil {
		return false, err
	}
	y, err := plain(b)
	return reflect.DeepEqual(x, y), err
}

func plain(v any) (out any, err error) {
	raw, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(raw, &out)
	}
	return out, err
}

func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
