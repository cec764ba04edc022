package golden_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/store"
	"github.com/ebb-dev/ebb/infra/store/golden"
)

type inner struct {
	Count int64 `json:"count"`
}

type first struct {
	Name  string           `json:"name"`
	Since time.Time        `json:"since"`
	Inner inner            `json:"inner"`
	All   map[string]inner `json:"all"`
}

func schemaOf[T any](options ...store.Option) store.Schema {
	return store.Schema{store.NewCollection[T]("people", options...).Spec()}
}

// A recorded form has to be readable for ever: a narrower integer, a removed or renamed member, another kind and a lost
// fraction of a second show, and an added member does not.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	errs := golden.Check(dir, "f", schemaOf[first]())
	if len(errs) != 1 || !strings.Contains(errs[0].Error(), "not recorded") {
		t.Fatalf("before it is recorded: got %v", errs)
	}
	if written, err := golden.Update(dir, "f", schemaOf[first]()); !written || err != nil {
		t.Fatal(written, err)
	}
	if written, err := golden.Update(dir, "f", schemaOf[first]()); written || err != nil {
		t.Fatal("the second time:", written, err)
	}
	for name, c := range map[string]struct {
		schema store.Schema
		want   []string
	}{
		"unchanged": {schemaOf[first](), nil},
		"an added member": {schemaOf[struct {
			first
			More string `json:"more"`
		}](), []string{"not recorded"}},
		"a narrower integer": {schemaOf[struct {
			first
			Inner struct {
				Count int32 `json:"count"`
			} `json:"inner"`
		}](), []string{"cannot unmarshal number", "not recorded"}},
		"a float": {schemaOf[struct {
			first
			Inner struct {
				Count float64 `json:"count"`
			} `json:"inner"`
		}](), []string{"$.inner.count was 9223372036854775807", "not recorded"}},
		"a removed member": {schemaOf[struct {
			Name  string    `json:"name"`
			Since time.Time `json:"since"`
			Inner inner     `json:"inner"`
		}](), []string{"$.all is not read any more", "not recorded"}},
		"a renamed member deep in it": {schemaOf[struct {
			first
			All map[string]struct {
				N int64 `json:"n"`
			} `json:"all"`
		}](), []string{"$.all.text.count is not read any more", "not recorded"}},
		"a collection that is gone": {nil, []string{`"people" is not declared any more`}},
		"a migration": {schemaOf[struct {
			Names []string `json:"names"`
		}](store.Migrate(func(doc store.Fields) error {
			doc["names"] = append(append([]byte(`[`), doc["name"]...), ']')
			delete(doc, "name")
			return nil
		})), []string{"not recorded"}},
		"a migration that goes wrong": {schemaOf[struct {
			Names []string `json:"names"`
		}](store.Migrate(func(doc store.Fields) error {
			doc["names"] = doc["name"]
			return nil
		})), []string{"cannot unmarshal string", "not recorded"}},
	} {
		t.Run(name, func(t *testing.T) {
			errs := golden.Check(dir, "f", c.schema)
			if len(errs) != len(c.want) {
				t.Fatalf("got %v, want %v", errs, c.want)
			}
			for i, want := range c.want {
				if !strings.Contains(errs[i].Error(), want) {
					t.Errorf("got %v, want %s", errs[i], want)
				}
			}
		})
	}
}

// Recordings of each revision go through the steps that follow it.
func TestRevisions(t *testing.T) {
	dir := t.TempDir()
	rename := func(from, to string) store.Option {
		return store.Migrate(func(doc store.Fields) error {
			doc[to] = doc[from]
			delete(doc, from)
			return nil
		})
	}
	type a struct {
		A json.RawMessage `json:"a"`
	}
	type b struct {
		B json.RawMessage `json:"b"`
	}
	type c struct {
		C json.RawMessage `json:"c"`
	}
	last := schemaOf[c](rename("a", "b"), rename("b", "c"))
	for _, schema := range []store.Schema{schemaOf[a](), schemaOf[b](rename("a", "b")), last} {
		if _, err := golden.Update(dir, "f", schema); err != nil {
			t.Fatal(err)
		}
	}
	if errs := golden.Check(dir, "f", last); len(errs) != 0 {
		t.Errorf("got %v", errs)
	}
	if errs := golden.Check(dir, "f", schemaOf[b](rename("a", "b"))); len(errs) != 1 ||
		!strings.Contains(errs[0].Error(), "newer version") {
		t.Errorf("back at the second form: got %v", errs)
	}
}
