package store

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

// Unknown members of any object are preserved, beside no other members and beside some; known members are not.
func FuzzPreserve(f *testing.F) {
	for _, seed := range []string{
		`{}`, ` { } `, `{"a":1}`, `{ "a" : "x, \"y\" }" , "b\\": [1,{"c":"]"}], "\u003c\"":{"d":{}}, "":null}`,
		`{"a":"\\","b":-1.5e9}`, `{"a":[],"b":[[]],"c":true}`, "{\"\xff\":0}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		var want map[string]any
		if json.Unmarshal(object, &want) != nil || want == nil || duplicates(object, len(want)) {
			return
		}
		for _, data := range []string{`{}`, `{"mine":1}`} {
			all := map[string]bool{"mine": true}
			delete(want, "mine")
			var got map[string]any
			kept := preserve(object, []byte(data), all)
			if err := json.Unmarshal(kept, &got); err != nil {
				t.Fatalf("%s: %v", kept, err)
			}
			delete(got, "mine")
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%s and %s: got %s", object, data, kept)
			}
			for name := range want {
				all[name] = true
			}
			if kept := preserve(object, []byte(data), all); string(kept) != data {
				t.Fatalf("%s, of which all is known, and %s: got %s", object, data, kept)
			}
		}
	})
}

// duplicates reports whether the object has a name twice, which every driver refuses.
func duplicates(object []byte, distinct int) bool {
	d := json.NewDecoder(bytes.NewReader(object))
	n, depth := 0, 0
	for {
		t, err := d.Token()
		if err != nil {
			return n/2 != distinct
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 1 && t != json.Delim('{') {
			n++
		}
	}
}
