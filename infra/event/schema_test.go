package event_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/event"
)

// everything uses each feature of a schema.
type everything struct {
	ID    string            `json:"id" format:"uuid" doc:"An id."`
	Mood  string            `json:"mood,omitempty" enum:"good,bad"`
	Tags  map[string]string `json:"tags,omitempty"`
	Small *int8             `json:"small,omitempty" min:"-5"`
	On    []bool            `json:"on,omitempty" minLength:"1" maxLength:"2"`
	At    time.Time         `json:"at,omitzero"`
	Day   string            `json:"day,omitempty" format:"date-time"`
	In    struct {
		Code string `json:"code" pattern:"^x+$" maxLength:"3"`
	} `json:"in,omitzero"`
}

const someID = `"id":"01920000-0000-7000-8000-00000000000A"`

// The tags of a struct become the keywords of JSON Schema.
func TestSchemaFromTags(t *testing.T) {
	want := `{"$schema":"https://json-schema.org/draft/2020-12/schema","title":"test","description":"A test.",
		"type":"object","required":["id"],"properties":{
		"id":{"type":"string","format":"uuid","description":"An id."},
		"mood":{"type":"string","enum":["good","bad"]},
		"tags":{"type":"object","additionalProperties":{"type":"string"}},
		"small":{"type":"integer","minimum":-5,"maximum":127},
		"on":{"type":"array","minItems":1,"maxItems":2,"items":{"type":"boolean"}},
		"at":{"type":"string","format":"date-time"},
		"day":{"type":"string","format":"date-time"},
		"in":{"type":"object","required":["code"],"properties":{"code":{"type":"string","pattern":"^x+$","maxLength":3}}}}}`
	if got := event.SchemaOf[everything](); !sameJSON(t, got, schema(t, want)) {
		t.Errorf("got %s", got)
	}
}

// Maps, pointers and nested structs are filled as encoding/json would.
func TestDecodeFillsEveryKind(t *testing.T) {
	got, err := event.DecodeAs[everything](
		`{` + someID + `,"mood":"bad","tags":{"a":"1","b":"2"},"small":-5,"on":[true,false],` +
			`"day":"2025-01-02T03:04:05Z","in":{"code":"xx"}}`,
	)
	small := int8(-5)
	want := everything{
		ID: "01920000-0000-7000-8000-00000000000A", Mood: "bad", Tags: map[string]string{"a": "1", "b": "2"},
		Small: &small, On: []bool{true, false}, Day: "2025-01-02T03:04:05Z",
	}
	want.In.Code = "xx"
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

// Each keyword is enforced.
func TestKeywordsHold(t *testing.T) {
	tests := map[string]string{
		`{"id":"x"}`: `$.id must be of format uuid`,
		`{"id":"01920000x0000-7000-8000-00000000000a"}`: `$.id must be of format uuid`,
		`{"id":"01920000-0000-7000-8000-00000000000g"}`: `$.id must be of format uuid`,
		`{` + someID + `,"mood":"odd"}`:                 `$.mood must be one of good, bad`,
		`{` + someID + `,"tags":{"a":1}}`:               `$.tags.a must be a string`,
		`{` + someID + `,"small":-6}`:                   `$.small must be at least -5`,
		`{` + someID + `,"small":128}`:                  `$.small must be an integer that fits`,
		`{` + someID + `,"on":[]}`:                      `$.on must have at least 1 items`,
		`{` + someID + `,"on":[true,true,true]}`:        `$.on[2] is one too many`,
		`{` + someID + `,"at":"2025-01-02"}`:            `$.at must be a time`,
		`{` + someID + `,"day":"2025-01-02"}`:           `$.day must be a time`,
		`{` + someID + `,"in":{"code":"xy"}}`:           `$.in.code must match ^x+$`,
		`{` + someID + `,"in":{"code":"xxxx"}}`:         `$.in.code must have at most 3`,
		`{` + someID + `,"in":{}}`:                      `$.in.code is missing`,
	}
	for data, want := range tests {
		if _, err := event.DecodeAs[everything](data); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", data, err, want)
		}
	}
}

type knot struct {
	Next *knot `json:"next,omitempty"`
}

// A type that a schema cannot express is not defined.
func TestSchemaRefuses(t *testing.T) {
	tests := map[string]func(){
		"no struct": func() { event.SchemaOf[string]() },
		"float": func() {
			event.SchemaOf[struct {
				F float64 `json:"f"`
			}]()
		},
		"any": func() {
			event.SchemaOf[struct {
				A any `json:"a"`
			}]()
		},
		"no name": func() { event.SchemaOf[struct{ A string }]() },
		"hidden": func() {
			event.SchemaOf[struct {
				A string `json:"-"`
			}]()
		},
		"embedded": func() {
			event.SchemaOf[struct {
				everything `json:"m"`
			}]()
		},
		"keys": func() {
			event.SchemaOf[struct {
				M map[int]string `json:"m"`
			}]()
		},
		"recursive": func() { event.SchemaOf[knot]() },
		"unknown format": func() {
			event.SchemaOf[struct {
				A string `json:"a" format:"ipv9"`
			}]()
		},
		"wrong limit": func() {
			event.SchemaOf[struct {
				A int `json:"a" min:"x"`
			}]()
		},
		"omitempty": func() {
			event.SchemaOf[struct {
				A time.Time `json:"a,omitempty"`
			}]()
		},
		"pattern": func() {
			event.SchemaOf[struct {
				A string `json:"a" pattern:"("`
			}]()
		},
	}
	for name, derive := range tests {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("it was taken")
				}
			}()
			derive()
		})
	}
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
