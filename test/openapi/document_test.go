package openapi_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// object is a JSON object.
type object = map[string]any

// document is an OpenAPI document, as far as the test reads it.
type document struct {
	root object
}

// parse returns the document in JSON.
func parse(raw []byte) (*document, error) {
	d := &document{}
	return d, json.Unmarshal(raw, &d.root)
}

// resolve returns v, or what it refers to.
func (d *document) resolve(v any) object {
	o, _ := v.(object)
	for {
		ref, ok := o["$ref"].(string)
		if !ok {
			return o
		}
		var at any = d.root
		for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
			at, _ = at.(object)[part]
		}
		o, _ = at.(object)
	}
}

func member(v any, names ...string) any {
	for _, name := range names {
		o, _ := v.(object)
		v = o[name]
	}
	return v
}

// operation is an operation of the document.
type operation struct {
	method, path string
	object
}

func (o operation) String() string { return o.method + " " + o.path }

// operations returns all operations, sorted by path and method.
func (d *document) operations() (all []operation) {
	for path, item := range d.root["paths"].(object) {
		for method, op := range item.(object) {
			all = append(all, operation{strings.ToUpper(method), path, op.(object)})
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	return all
}

// find returns the operation for a request, which HEAD has of GET.
func (d *document) find(method, path string) (found operation, ok bool) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	best := -1
	for _, o := range d.operations() {
		if o.method != method {
			continue
		}
		if literal := matches(o.path, path); literal > best {
			best, found = literal, o
		}
	}
	return found, best >= 0
}

// matches returns how many segments of the template are the path's; -1: it does not match.
func matches(template, path string) (literal int) {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return -1
	}
	for i := range want {
		switch {
		case want[i] == got[i]:
			literal++
		case !strings.HasPrefix(want[i], "{"):
			return -1
		}
	}
	return literal
}

// ofHTTP are header fields that describe the message itself.
var ofHTTP = []string{"Content-Type", "Content-Length", "Date", "Connection", "Transfer-Encoding", "Trailer"}

// check returns what an answer has that the document does not say.
func (d *document) check(method, path string, answer *http.Response, body []byte) (faults []string) {
	status := fmt.Sprint(answer.StatusCode)
	undeclared := d.root["x-undeclared"].(object)
	declared := d.resolve(member(undeclared, "responses", status))
	if op, ok := d.find(method, path); ok {
		declared = d.resolve(member(op.object, "responses", status))
	}
	if declared == nil {
		return []string{"status " + status + " is not in the document"}
	}
	for name := range answer.Header {
		if !slices.Contains(ofHTTP, name) && !hasField(declared["headers"], name) &&
			!hasField(member(undeclared, "everyAnswer", "headers"), name) {
			faults = append(faults, status+" has the header field "+name+", which is not in the document")
		}
	}
	media, _, _ := strings.Cut(answer.Header.Get("Content-Type"), ";")
	content := member(declared, "content", media)
	_, isOperation := d.find(method, path)
	switch {
	case !isOperation || media == "" && len(body) == 0 && member(declared, "content") == nil:
	case content == nil:
		faults = append(faults, fmt.Sprintf("%s has the media type %q, which is not in the document", status, media))
	case method != http.MethodHead && strings.HasSuffix(media, "json"):
		var v any
		if err := json.Unmarshal(body, &v); err != nil {
			return append(faults, status+" has a body that is no JSON: "+err.Error())
		}
		for _, fault := range d.validate("body", member(content, "schema"), v) {
			faults = append(faults, status+": "+fault)
		}
	}
	return faults
}

func hasField(fields any, name string) bool {
	all, _ := fields.(object)
	for field := range all {
		if strings.EqualFold(field, name) {
			return true
		}
	}
	return false
}

// validate returns where v is not what the schema says, as far as this document uses JSON Schema in its answers.
func (d *document) validate(at string, schema, v any) (faults []string) {
	s := d.resolve(schema)
	if len(s) == 0 {
		return nil
	}
	refuse := func(format string, args ...any) { faults = append(faults, at+" "+fmt.Sprintf(format, args...)) }
	if types := list(s["type"]); len(types) > 0 && !slices.Contains(types, any(typeOf(v))) &&
		!(typeOf(v) == "integer" && slices.Contains(types, any("number"))) {
		refuse("is %s, want %v", typeOf(v), types)
		return faults
	}
	if allowed := list(s["enum"]); len(allowed) > 0 && v != nil && !slices.Contains(allowed, v) {
		refuse("is %v, want one of %v", v, allowed)
	}
	if text, ok := v.(string); ok && s["format"] == "date-time" {
		if _, err := time.Parse(time.RFC3339, text); err != nil {
			refuse("is %q, want a time", text)
		}
	}
	switch v := v.(type) {
	case []any:
		for i, item := range v {
			faults = append(faults, d.validate(fmt.Sprintf("%s[%d]", at, i), s["items"], item)...)
		}
	case object:
		for _, name := range list(s["required"]) {
			if _, has := v[name.(string)]; !has {
				refuse("has no %s", name)
			}
		}
		for name, value := range v {
			switch property := member(s, "properties", name); {
			case property != nil:
				faults = append(faults, d.validate(at+"."+name, property, value)...)
			case s["additionalProperties"] == false:
				refuse("has %s, which is not in the document", name)
			}
		}
	}
	return faults
}

func list(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

func typeOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case bool:
		return "boolean"
	case float64:
		if v == math.Trunc(v) {
			return "integer"
		}
		return "number"
	case []any:
		return "array"
	}
	return "object"
}

// sample returns a value that the schema allows.
func (d *document) sample(schema any) any {
	s := d.resolve(schema)
	if allowed := list(s["enum"]); len(allowed) > 0 {
		return allowed[0]
	}
	var kind any
	if kinds := list(s["type"]); len(kinds) > 0 {
		kind = kinds[0]
	}
	switch kind {
	case "string":
		if s["format"] == "date-time" {
			return "2026-01-02T03:04:05Z"
		}
		if pattern, _ := s["pattern"].(string); !regexp.MustCompile(pattern).MatchString("sample text") {
			return "sample"
		}
		return "sample text"
	case "integer", "number":
		return 1
	case "boolean":
		return true
	case "array":
		return []any{d.sample(s["items"])}
	}
	o := object{}
	properties, _ := s["properties"].(object)
	for name, property := range properties {
		if d.resolve(property)["readOnly"] != true && name != "$schema" {
			o[name] = d.sample(property)
		}
	}
	return o
}
