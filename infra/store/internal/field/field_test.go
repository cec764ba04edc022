package field_test

import (
	"cmp"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/store/internal/field"
)

func TestValue(t *testing.T) {
	const doc = ` { "a" : 1 , "s":"x, \"y\": }","nest":{"skip":[{"b":0},"]"],"b":{"c":true}},"":"empty","\u00e9":"escaped",
		"null":null,"list":[1],"neg":-0.0,"big":1e999,"last":false } `
	for path, want := range map[string]any{
		"a": 1.0, "s": `x, "y": }`, "nest.b.c": true, "": "empty", "é": "escaped", "last": false, "neg": 0.0,
		"null": nil, "list": nil, "nest": nil, "missing": nil, "a.b": nil, "list.0": nil, "b": nil, "nest.b.c.d": nil,
		"big": nil,
	} {
		if got := field.Value([]byte(doc), path); got != want {
			t.Errorf("%q: got %v, want %v", path, got, want)
		}
	}
	if f := field.Value([]byte(`{"n":-0}`), "n").(float64); math.Signbit(f) {
		t.Error("there are two zeros")
	}
}

// Invalid JSON has no fields and causes no panic.
func TestValueOfInvalid(t *testing.T) {
	for _, doc := range []string{
		"", " ", "{", `{"`, `{"a`, `{"a"`, `{"a":`, `{"a":}`, `{"a":"`, `{"a":"\`, `{"b":[`, `{"b":]`, `{"b":1,`, `{"a":--}`,
		`[]`, `1`, `nul`,
	} {
		if got := field.Value([]byte(doc), "a"); got != nil {
			t.Errorf("%q: got %v", doc, got)
		}
	}
}

// FuzzValue compares with encoding/json.
func FuzzValue(f *testing.F) {
	f.Add("a", `te\xt", {`, 2.5, true)
	f.Add("\u00e9\\", "\xff\u2028", -1e-300, false)
	f.Fuzz(func(t *testing.T, name, text string, number float64, flag bool) {
		if strings.Contains(name, ".") || math.IsNaN(number) || math.IsInf(number, 0) {
			return
		}
		for _, v := range []any{text, number, flag, nil, []string{text}} {
			around := map[string]any{"": text, text: []any{text, name}, "z": map[string]any{name: flag}}
			delete(around, name)
			around[name] = v
			doc, err := json.MarshalIndent(around, " ", "\t")
			if err != nil {
				t.Skip(err)
			}
			if got, want := field.Value(doc, name), decoded(doc, name); got != want {
				t.Errorf("%q of %s: got %v, want %v", name, doc, got, want)
			}
		}
	})
}

// decoded returns the value that encoding/json decodes; nil when it is not a scalar.
func decoded(doc []byte, name string) any {
	var members map[string]any
	if json.Unmarshal(doc, &members) != nil {
		return nil
	}
	switch v := members[name].(type) {
	case string, float64, bool:
		return v
	}
	return nil
}

func TestCompare(t *testing.T) {
	ascending := []any{nil, false, true, math.Inf(-1), -1.5, int64(-1), 0, 0.5, 1, 1e9, "", "A", "a", "aa", "é", "🚢"}
	for i, a := range ascending {
		for j, b := range ascending {
			if got, want := field.Compare(a, b), cmp.Compare(i, j); got != want {
				t.Errorf("%v with %v: got %d, want %d", a, b, got, want)
			}
		}
	}
	if field.Compare(int64(1), 1.0) != 0 {
		t.Error("an integer differs from the same number")
	}
}
