// Package eventtest checks a product's event types against their golden files and their examples.
package eventtest

import (
	"encoding/json"
	"flag"
	"reflect"
	"testing"

	"github.com/ebb-dev/ebb/infra/event"
	"github.com/ebb-dev/ebb/infra/event/golden"
)

var update = flag.Bool("update", false, "record new event types, examples and schemas")

// Golden checks the types against the recordings in dir, usually testdata beside the definitions: today's code reads
// every event that was ever emitted, no schema changed in a way that a consumer could trip over, and every schema and
// example of today is recorded. Run the test with -update, or ebb generate, to record what is missing.
func Golden(t *testing.T, dir string, types []*event.Info) {
	t.Helper()
	if *update {
		written, removed, err := golden.Update(dir, types)
		if err != nil {
			t.Fatal(err)
		}
		t.Log("wrote", written, "removed", removed)
	}
	for _, err := range golden.Check(dir, types) {
		t.Error(err)
	}
}

// Examples checks that every example survives encoding and decoding, and that each field is in one of its type's
// examples: documents and golden files are made of them.
func Examples(t *testing.T, types []*event.Info) {
	t.Helper()
	for _, info := range types {
		fields := map[string]json.RawMessage{}
		for _, x := range info.Examples {
			raw, err := event.Draft{Info: info, Data: x.Data}.Encode()
			if err != nil {
				t.Errorf("example %q: %v", x.Name, err)
				continue
			}
			into := reflect.New(info.GoType)
			if err := json.Unmarshal(raw, into.Interface()); err != nil {
				t.Errorf("%s: %v", info.Name, err)
			}
			if got := into.Elem().Interface(); !reflect.DeepEqual(got, x.Data) {
				t.Errorf("%s: example %q comes back as %+v, want %+v", info.Name, x.Name, got, x.Data)
			}
			if err := json.Unmarshal(raw, &fields); err != nil {
				t.Errorf("%s: %v", info.Name, err)
			}
		}
		for name := range info.Schema.Properties {
			if _, ok := fields[name]; !ok {
				t.Errorf("%s: no example has the field %s", info.Name, name)
			}
		}
	}
}
