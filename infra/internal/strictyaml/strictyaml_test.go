package strictyaml_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ebb-dev/ebb/infra/internal/strictyaml"
)

// wait is a duration as text.
type wait time.Duration

func (w *wait) UnmarshalText(b []byte) error {
	d, err := time.ParseDuration(string(b))
	*w = wait(d)
	if err != nil {
		return errors.New("want a duration")
	}
	return nil
}

type part struct {
	Name  string  `json:"name"`
	Share float64 `json:"share"`
}

type inner struct {
	On bool `json:"on"`
}

type config struct {
	inner
	Title string          `json:"title"`
	Count int64           `json:"count,omitempty"`
	Wait  wait            `json:"wait"`
	Parts []part          `json:"parts"`
	Part  *part           `json:"part"`
	Known map[string]part `json:"known" strict:"known"`
	Free  map[string]part `json:"free"`
}

func before() config {
	return config{
		Title: "before", Count: 1, Parts: []part{{Name: "old", Share: 1}}, Part: &part{Name: "old", Share: 1},
		Known: map[string]part{"a.b": {Name: "old", Share: 1}, "other": {Name: "other"}},
	}
}

// A document changes the fields that it has. A list and a pointer are replaced, an entry of a map is changed.
func TestDecode(t *testing.T) {
	const yaml = `
on: true
title: after
wait: 2s
parts: [{name: x, share: 0.5}, {name: y, share: 1}]
part: {name: z}
known: {a.b: {share: 2}}
free:
  q: {name: q}
`
	const json = `{"on":true,"title":"after","wait":"2s","parts":[{"name":"x","share":0.5},{"name":"y","share":1}],
		"part":{"name":"z"},"known":{"a.b":{"share":2}},"free":{"q":{"name":"q"}}}`
	want := config{
		inner: inner{On: true}, Title: "after", Count: 1, Wait: wait(2 * time.Second),
		Parts: []part{{"x", 0.5}, {"y", 1}}, Part: &part{Name: "z"},
		Known: map[string]part{"a.b": {"old", 2}, "other": {Name: "other"}},
		Free:  map[string]part{"q": {Name: "q"}},
	}
	for _, text := range []string{yaml, json} {
		got := before()
		if err := strictyaml.Decode("f", []byte(text), &got).Err(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	for _, empty := range []string{"", "# nothing\n", "{}"} {
		got := before()
		if err := strictyaml.Decode("f", []byte(empty), &got).Err(); err != nil || !reflect.DeepEqual(got, before()) {
			t.Errorf("%q: got %+v, %v", empty, got, err)
		}
	}
}

// Every fault is named by file, line and field, all at once and sorted by line.
func TestFaults(t *testing.T) {
	for text, want := range map[string]string{
		"titel: x":                          `f:1: titel: unknown field (did you mean "title"?)`,
		"\nzzzzzz: x":                       "f:2: zzzzzz: unknown field",
		"title: 3":                          "f:1: title: want text",
		"title: [a]":                        "f:1: title: want text",
		"title:":                            "f:1: title: has no value",
		"count: 1.5":                        "f:1: count: want a whole number",
		"count: \"1\"":                      "f:1: count: want a whole number",
		"count: 0x10":                       "f:1: count: want a whole number",
		"on: yes":                           "f:1: on: want true or false",
		"wait: soon":                        "f:1: wait: want a duration",
		"wait: {}":                          "f:1: wait: want text",
		"parts: {}":                         "f:1: parts: want a list",
		"parts:\n- name: a\n- nam: b":       `f:3: parts[1].nam: unknown field (did you mean "name"?)`,
		"parts:\n- {share: x}":              "f:2: parts[0].share: want a number",
		"known: {a.c: {}}":                  `f:1: known.a.c: unknown entry (did you mean "a.b"?)`,
		"known: []":                         "f:1: known: want fields",
		"title: a\ntitle: b":                "f:2: title: duplicate field",
		"free: {1: {}}":                     "f:1: free.1: want text as the name of a field",
		"part: &a {name: x}":                "f:1: part: anchors and aliases are not supported",
		"free: {a: {name: b}, <<: {c: {}}}": "f:1: free.<<: want text as the name of a field",
		"title: a\n---\ntitle: b":           "f: want one document",
		"- a":                               "f:1: want fields",
		"title: \"a":                        "f: found unexpected end of stream",
		"title: a\n\tcount: 1":              "f:2: found a tab character that violates indentation",
		"title: 1\non: 1\ncount: a": "f:1: title: want text\n" +
			"f:2: on: want true or false\nf:3: count: want a whole number",
		"title: " + strings.Repeat("[", 20000): "f: exceeded max depth of 10000",
	} {
		got := before()
		err := strictyaml.Decode("f", []byte(text), &got).Err()
		if err == nil || err.Error() != want {
			t.Errorf("%.60q: got %v, want %s", text, err, want)
		}
	}
}

// What is found out after decoding is reported at the line of the field, or of what the field would be in.
func TestReport(t *testing.T) {
	got := before()
	doc := strictyaml.Decode("f", []byte("title: x\nknown:\n  a.b:\n    share: 3\n"), &got)
	doc.Report("known.a.b.share", "want less")
	doc.Report("known.a.b.name", "want more")
	doc.Report("count", "want a count")
	if !doc.Has("known.a.b.share") || doc.Has("known.a.b.name") {
		t.Error("Has does not tell what the document has")
	}
	const want = "f:1: count: want a count\nf:3: known.a.b.name: want more\nf:4: known.a.b.share: want less"
	if err := doc.Err(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// No document makes the decoder panic, and what it refuses it refuses with a name.
func FuzzDecode(f *testing.F) {
	f.Add("title: x\nparts: [{name: a}]\nknown: {a.b: {share: 1}}")
	f.Add(`{"part":null,"free":{"a":{"name":1}}}`)
	f.Add("a: &a [*a]")
	f.Add("? {a: b}\n: c")
	f.Fuzz(func(t *testing.T, text string) {
		got := before()
		if err := strictyaml.Decode("f", []byte(text), &got).Err(); err != nil && !strings.HasPrefix(err.Error(), "f:") {
			t.Errorf("got %v", err)
		}
	})
}
