package events_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/ebb-dev/ebb/events"
)

// The golden files are kept for ever, so -update adds what is missing and never
// changes a file that is there.
var update = flag.Bool("update", false, "add golden files for new examples and schemas")

const dir = "testdata"

// Whatever was said once can still be read: every event in testdata is one that
// today's schema allows.
func TestTodayReadsEveryGoldenEvent(t *testing.T) {
	writeMissing(t)
	for _, file := range files(t, "*/*.json") {
		if isSchema(file) {
			continue
		}
		e := readEvent(t, file)
		info, ok := events.Lookup(e.Type())
		if !ok {
			t.Errorf("%s: nobody knows %s any more", file, e.Type())
			continue
		}
		if err := info.CheckEvent(e); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if got, want := filepath.Base(filepath.Dir(file)), e.Type(); got != want {
			t.Errorf("%s: in the folder %s, but is a %s", file, got, want)
		}
	}
}

// Every example of today stands among the golden events, so that tomorrow is held to it.
func TestEveryExampleIsGolden(t *testing.T) {
	writeMissing(t)
	for _, info := range events.Catalogue() {
		for _, x := range info.Examples {
			if !isGolden(t, info, x) {
				t.Errorf("%s: example %q is in no golden file; add it with -update", info.Name, x.Name)
			}
		}
	}
}

// Today's schema breaks no reader and no event of any schema there ever was, and the
// newest of them is today's.
func TestSchemasStayCompatible(t *testing.T) {
	writeMissing(t)
	for _, info := range events.Catalogue() {
		known := false
		for _, file := range files(t, info.Name+"/schema*.json") {
			old := readSchema(t, file)
			for _, change := range events.Compatible(old, info.Schema) {
				t.Errorf("%s: %s: it needs a v%d", file, change, info.Version+1)
			}
			known = known || sameJSON(t, old, info.Schema)
		}
		if !known {
			t.Errorf("%s: the schema is in no golden file; add it with -update", info.Name)
		}
	}
}

// A folder of a type that is gone would mean events that nobody can read.
func TestNoTypeIsGone(t *testing.T) {
	for _, folder := range files(t, "dev.ebb.*") {
		if _, ok := events.Lookup(filepath.Base(folder)); !ok {
			t.Errorf("%s: golden files of a type that is not in the catalogue", folder)
		}
	}
}

func writeMissing(t *testing.T) {
	t.Helper()
	if !*update {
		return
	}
	for i, info := range events.Catalogue() {
		for j, x := range info.Examples {
			if !isGolden(t, info, x) {
				add(t, info.Name, x.Name, golden(t, info, x, i*10+j))
			}
		}
		if !hasSchema(t, info) {
			add(t, info.Name, "schema", info.Schema)
		}
	}
}

// golden is an example as a complete event. Its stamps are fixed, so that the same
// code always writes the same file.
func golden(t *testing.T, info *events.Info, x events.Example, number int) event.Event {
	t.Helper()
	id := fmt.Sprintf("01920000-0000-7000-9000-%012d", number)
	e := event.New()
	e.SetID(id)
	e.SetSource("/functions/" + info.Capability)
	e.SetType(info.Name)
	e.SetSubject("01920000-0000-7000-8000-000000000003")
	e.SetTime(time.Date(2025, time.January, 2, 3, 4, 5, 0, time.UTC))
	e.SetDataSchema(info.DataSchema)
	e.SetExtension("partitionkey", e.Subject())
	e.SetExtension("sequence", "00000000000000000001")
	e.SetExtension("correlationid", id)
	e.SetExtension("causationid", id)
	e.SetExtension("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	raw, err := events.Draft{Info: info, Data: x.Data}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.SetData(events.ContentType, raw); err != nil {
		t.Fatal(err)
	}
	return e
}

// add writes under the first free name and refuses to touch a file that is there.
func add(t *testing.T, folder, name string, content any) {
	t.Helper()
	raw, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, folder, name+".json")
	for n := 2; exists(file); n++ {
		file = filepath.Join(dir, folder, fmt.Sprintf("%s-%d.json", name, n))
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(append(raw, '\n')); err != nil {
		t.Fatal(err)
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func isGolden(t *testing.T, info *events.Info, x events.Example) bool {
	t.Helper()
	for _, file := range files(t, info.Name+"/*.json") {
		if !isSchema(file) && sameJSON(t, json.RawMessage(readEvent(t, file).Data()), x.Data) {
			return true
		}
	}
	return false
}

func hasSchema(t *testing.T, info *events.Info) bool {
	t.Helper()
	for _, file := range files(t, info.Name+"/schema*.json") {
		if sameJSON(t, readSchema(t, file), info.Schema) {
			return true
		}
	}
	return false
}

func isSchema(file string) bool { return strings.HasPrefix(filepath.Base(file), "schema") }

func files(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func readEvent(t *testing.T, file string) event.Event {
	t.Helper()
	var e event.Event
	if err := json.Unmarshal(read(t, file), &e); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if err := e.Validate(); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return e
}

func readSchema(t *testing.T, file string) *events.Schema {
	t.Helper()
	s, err := events.ParseSchema(read(t, file))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return s
}

func sameJSON(t *testing.T, a, b any) bool {
	t.Helper()
	return reflect.DeepEqual(plain(t, a), plain(t, b))
}

func plain(t *testing.T, x any) (out any) {
	t.Helper()
	raw, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
