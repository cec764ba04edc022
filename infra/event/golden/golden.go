// Package golden keeps the history of event types in files, so that a test shows when today's code cannot read what was
// emitted earlier.
//
// A folder has one folder per type, named after it, with every schema that the type ever had (schema.json,
// schema-2.json ...) and examples of events (full.json, minimal.json ...). Files are added, never changed or removed.
package golden

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/infra/event"
)

// Check compares the types with the golden files of a folder. Each error names one difference:
//
//   - an event in a golden file that today's schema refuses, or whose type is gone;
//   - a schema in a golden file that today's schema is not compatible with (see event.Compatible);
//   - a schema or an example that is in no golden file yet: Update adds it.
//
// A folder that does not exist counts as empty.
func Check(dir string, types []*event.Info) []error {
	c := checker{dir: dir, types: event.NewCatalogue(types...)}
	c.folders()
	for _, info := range types {
		c.events(info)
		c.schemas(info)
		c.examples(info)
	}
	return c.errs
}

// Update adds the golden files that are missing and returns their paths. It changes no file that exists.
func Update(dir string, types []*event.Info) (added []string, err error) {
	for i, info := range types {
		for j, x := range info.Examples {
			known, err := hasExample(dir, info, x)
			if err != nil || known {
				if err != nil {
					return added, err
				}
				continue
			}
			e, err := example(info, x, i*10+j)
			if err != nil {
				return added, err
			}
			path, err := add(filepath.Join(dir, info.Name), x.Name, e)
			if err != nil {
				return added, err
			}
			added = append(added, path)
		}
		known, err := hasSchema(dir, info)
		if err != nil {
			return added, err
		}
		if !known {
			path, err := add(filepath.Join(dir, info.Name), "schema", info.Schema)
			if err != nil {
				return added, err
			}
			added = append(added, path)
		}
	}
	return added, nil
}

type checker struct {
	dir   string
	types event.Catalogue
	errs  []error
}

func (c *checker) add(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

// folders reports golden files whose type is not defined any more: its events cannot be read.
func (c *checker) folders() {
	entries, err := os.ReadDir(c.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.add("%w", err)
	}
	for _, e := range entries {
		if _, known := c.types.Lookup(e.Name()); e.IsDir() && !known {
			c.add("%s: golden files of a type that is not defined any more", filepath.Join(c.dir, e.Name()))
		}
	}
}

func (c *checker) events(info *event.Info) {
	for _, file := range files(c.dir, info, false) {
		e, err := readEvent(file)
		if err == nil && e.Type() != info.Name {
			err = fmt.Errorf("event of type %s in the folder of %s", e.Type(), info.Name)
		}
		if err == nil {
			err = info.CheckEvent(e)
		}
		if err != nil {
			c.add("%s: %w", file, err)
		}
	}
}

func (c *checker) schemas(info *event.Info) {
	for _, file := range files(c.dir, info, true) {
		old, err := readSchema(file)
		if err != nil {
			c.add("%s: %w", file, err)
			continue
		}
		for _, change := range event.Compatible(old, info.Schema) {
			c.add("%s: %s: this needs a version %d of the type", file, change, info.Version+1)
		}
	}
	switch known, err := hasSchema(c.dir, info); {
	case err != nil:
		c.add("%w", err)
	case !known:
		c.add("%s: the schema is in no golden file; ebb generate adds it", info.Name)
	}
}

func (c *checker) examples(info *event.Info) {
	for _, x := range info.Examples {
		switch known, err := hasExample(c.dir, info, x); {
		case err != nil:
			c.add("%w", err)
		case !known:
			c.add("%s: example %q is in no golden file; ebb generate adds it", info.Name, x.Name)
		}
	}
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

// add writes content under the first free name.
func add(folder, name string, content any) (string, error) {
	raw, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	for n := 1; ; n++ {
		path := filepath.Join(folder, name+".json")
		if n > 1 {
			path = filepath.Join(folder, fmt.Sprintf("%s-%d.json", name, n))
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		_, err = f.Write(append(raw, '\n'))
		return path, errors.Join(err, f.Close())
	}
}

func hasExample(dir string, info *event.Info, x event.Example) (bool, error) {
	for _, file := range files(dir, info, false) {
		e, err := readEvent(file)
		if err != nil {
			return false, fmt.Errorf("%s: %w", file, err)
		}
		same, err := sameJSON(json.RawMessage(e.Data()), x.Data)
		if err != nil || same {
			return same, err
		}
	}
	return false, nil
}

func hasSchema(dir string, info *event.Info) (bool, error) {
	for _, file := range files(dir, info, true) {
		s, err := readSchema(file)
		if err != nil {
			return false, fmt.Errorf("%s: %w", file, err)
		}
		same, err := sameJSON(s, info.Schema)
		if err != nil || same {
			return same, err
		}
	}
	return false, nil
}

// files returns the golden schemas or the golden events of a type, sorted.
func files(dir string, info *event.Info, schemas bool) (paths []string) {
	all, _ := filepath.Glob(filepath.Join(dir, info.Name, "*.json")) // the pattern is well-formed
	for _, path := range all {
		if strings.HasPrefix(filepath.Base(path), "schema") == schemas {
			paths = append(paths, path)
		}
	}
	return paths
}

func readEvent(path string) (ce.Event, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ce.Event{}, err
	}
	e, err := event.FromJSON(raw)
	if err != nil {
		return e, err
	}
	return e, e.Validate()
}

func readSchema(path string) (*event.Schema, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return event.ParseSchema(raw)
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
