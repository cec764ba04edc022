package jsonlimit_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/ebb-dev/ebb/infra/fault"
	"github.com/ebb-dev/ebb/infra/internal/jsonlimit"
)

var order = &jsonlimit.Shape{Fields: map[string]*jsonlimit.Shape{
	"lines": {MaxItems: 2, Items: &jsonlimit.Shape{Fields: map[string]*jsonlimit.Shape{"tags": {MaxItems: 1}}}},
}, Others: &jsonlimit.Shape{MaxItems: 3}}

func TestCheck(t *testing.T) {
	for text, want := range map[string]string{
		`{"lines":[{},{}]}`:                                     "",
		`{"lines":[{},{},{}]}`:                                  "body.lines: expected array length <= 2",
		`{"lines":[{},{"tags":["a","b"]}]}`:                     "body.lines[1].tags: expected array length <= 1",
		`{"lin\u0065s":[1,2,3]}`:                                "body.lines: expected array length <= 2",
		`{"others":[1,2,3]}`:                                    "",
		`{"others":[1,2,3,4]}`:                                  "body.others: expected array length <= 3",
		`{"a":1,"a":2}`:                                         `duplicate member "a" in an object of the body`,
		`{"a":1,"\u0061":2}`:                                    `duplicate member "a" in an object of the body`,
		`{"a":{"a":1},"b":[{"a":1},{"a":2}],"c":"a"}`:           "",
		`{"a":{"b":1},"b":{"b":1},"a":2}`:                       `duplicate member "a" in an object of the body`,
		`{"a":1e400}`:                                           "body.a: number is out of range",
		`[1,-1.5e3,true,false,null,"\"\\"]`:                     "",
		strings.Repeat("[", 32) + strings.Repeat("]", 32):       "",
		strings.Repeat("[", 33) + strings.Repeat("]", 33):       "the body is nested deeper than 32 levels",
		"[" + strings.Repeat("1,", 98) + "1]":                   "",
		"[" + strings.Repeat("1,", 99) + "1]":                   "the body has too many values",
		`{"` + strings.Repeat("a", 128) + `":1}`:                "",
		`{"` + strings.Repeat("a", 129) + `":1}`:                "a name in the body is longer than 128 bytes",
		`{` + members(40) + `,"m39":1}`:                         `duplicate member "m39" in an object of the body`,
		`{` + members(40) + `,"m3":1}`:                          `duplicate member "m3" in an object of the body`,
		`{` + members(40) + `}`:                                 "",
		`{"a":{` + members(20) + `},"b":{` + members(20) + `}}`: "",
		``: "", `{`: "", `{"a":1,"a":2`: "", `nul`: "",
	} {
		err := jsonlimit.Check([]byte(text), 100, order)
		got := ""
		if err != nil {
			got = fault.Public(err)
			for _, d := range fault.DetailsOf(err) {
				got = d.Location + ": " + d.Message
			}
			if status := fault.HTTPStatus(err); status != http.StatusBadRequest && status != http.StatusUnprocessableEntity {
				t.Errorf("%.60s: status %d", text, status)
			}
		}
		if got != want {
			t.Errorf("%.60s: got %q, want %q", text, got, want)
		}
	}
}

// An object without a shape may have many members; one with a closed shape is refused when it has too many violations.
func TestFaultsAreCounted(t *testing.T) {
	shape := &jsonlimit.Shape{Items: &jsonlimit.Shape{
		Fields: map[string]*jsonlimit.Shape{"a": nil, "b": nil}, Closed: true,
		Required: map[string]bool{"a": true, "b": true},
	}}
	for text, refused := range map[string]bool{
		"[" + strings.Repeat(`{"a":1,"b":2},`, 1000) + `{"a":1,"b":1}]`: false,
		"[" + strings.Repeat(`{"a":1},`, 99) + `{"a":1}]`:               false,
		"[" + strings.Repeat(`{"a":1},`, 100) + `{"a":1}]`:              true,
		"[" + strings.Repeat(`{"a":1,"b":1,"c":1},`, 101) + `{}]`:       true,
		"[{" + members(98) + `}]`:                                       false, // and two members are missing
		"[{" + members(101) + `}]`:                                      true,
	} {
		if err := jsonlimit.Check([]byte(text), 10_000, shape); (err != nil) != refused {
			t.Errorf("%.60s: got %v, want refused %t", text, err, refused)
		}
	}
}

func members(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(`"m%d":1`, i)
	}
	return strings.Join(all, ",")
}

// A refusal allocates little.
func TestCost(t *testing.T) {
	for name, text := range map[string]string{
		"wide": "[" + strings.Repeat("{},", 333_000) + "{}]", "deep": strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
		"names": `{"a":` + "[" + strings.Repeat(`{"a":1},`, 100_000) + "{}]}",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := jsonlimit.Check([]byte(text), 10_000, nil)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; err == nil || used > uint64(len(text))+1<<20 {
			t.Errorf("%s: %v, after %d bytes", name, err, used)
		}
	}
}

// A text that Check accepts is decoded or refused by the decoder; no text causes a panic.
func FuzzCheck(f *testing.F) {
	for _, seed := range []string{
		`{"lines":[{},{"tags":["a","b"]}]}`, `[1,"\"",{"a":[null]}]`, `{"\ud800":1}`, `"a`, " 1 ", `{"a":{},"b":[]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if jsonlimit.Check(text, 100, order) != nil && !json.Valid(text) {
			t.Errorf("%q is no JSON, and was refused for something else", text)
		}
	})
}
