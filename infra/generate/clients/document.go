// Package clients makes typed clients from an OpenAPI document of package generate: one in Go and one in TypeScript.
// Both have a type for each schema and a method for each operation that takes and answers JSON, and need no other
// library.
package clients

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// object is a JSON object.
type object = map[string]any

// document is what clients need of an OpenAPI document.
type document struct {
	title      string
	schemas    object
	operations []operation
}

// operation is an operation that takes and answers JSON, or nothing.
type operation struct {
	id, method, path, summary string
	parameters                []parameter // those of the path first, in its order
	body                      any         // the schema; nil: none
	needsBody                 bool
	takesKey                  bool
	answer                    any // the schema of success; nil: none
	answersNothing            bool
}

// parameter is a parameter of an operation.
type parameter struct {
	name, in, description string
	required              bool
	schema                object
}

// parse reads an OpenAPI document.
func parse(raw []byte) (*document, error) {
	var root struct {
		Info       struct{ Title string }
		Paths      map[string]map[string]object
		Components struct{ Schemas object }
	}
	if err := json.Unmarshal(raw, &root); err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	d := &document{title: root.Info.Title, schemas: root.Components.Schemas}
	for _, path := range sortedKeys(root.Paths) {
		for _, method := range sortedKeys(root.Paths[path]) {
			o, ok := operationOf(strings.ToUpper(method), path, root.Paths[path][method])
			if ok {
				d.operations = append(d.operations, o)
			}
		}
	}
	return d, nil
}

// operationOf returns an operation; false if it takes or answers something that is not JSON.
func operationOf(method, path string, o object) (op operation, ok bool) {
	op = operation{method: method, path: path}
	op.id, _ = o["operationId"].(string)
	op.summary, _ = o["summary"].(string)
	if body := member(o, "requestBody"); body != nil {
		op.body = member(o, "requestBody", "content", "application/json", "schema")
		op.needsBody = member(o, "requestBody", "required") == true
		if op.body == nil {
			return op, false
		}
	}
	responses, _ := o["responses"].(object)
	for _, status := range sortedKeys(responses) {
		if !strings.HasPrefix(status, "2") {
			continue
		}
		content := member(responses, status, "content")
		if content == nil {
			op.answersNothing = true
			continue
		}
		if op.answer = member(content, "application/json", "schema"); op.answer == nil {
			return op, false
		}
	}
	all, _ := o["parameters"].([]any)
	for _, p := range all {
		op.addParameter(p)
	}
	place := func(p parameter) int {
		if p.in != "path" {
			return len(path)
		}
		return strings.Index(path, "{"+p.name+"}")
	}
	slices.SortStableFunc(op.parameters, func(a, b parameter) int { return place(a) - place(b) })
	return op, op.id != "" && (op.answer != nil || op.answersNothing)
}

func (op *operation) addParameter(v any) {
	o, _ := v.(object)
	p := parameter{required: o["required"] == true}
	p.name, _ = o["name"].(string)
	p.in, _ = o["in"].(string)
	p.description, _ = o["description"].(string)
	p.schema, _ = o["schema"].(object)
	if p.name == "Idempotency-Key" {
		op.takesKey = true
		return
	}
	op.parameters = append(op.parameters, p)
}

// of returns the parameters that are in the path, or those that are elsewhere.
func (op operation) of(path bool) (some []parameter) {
	for _, p := range op.parameters {
		if (p.in == "path") == path {
			some = append(some, p)
		}
	}
	return some
}

// sent returns the names of all schemas that bodies of requests have, with those in them.
func (d *document) sent() map[string]bool {
	names := map[string]bool{}
	for _, op := range d.operations {
		d.collect(op.body, names)
	}
	return names
}

func (d *document) collect(v any, names map[string]bool) {
	switch v := v.(type) {
	case object:
		if name := refOf(v); name != "" && !names[name] {
			names[name] = true
			d.collect(d.schemas[name], names)
		}
		for _, value := range v {
			d.collect(value, names)
		}
	case []any:
		for _, value := range v {
			d.collect(value, names)
		}
	}
}

// refOf returns the name of the schema that v refers to; "" if v is no reference.
func refOf(v any) string {
	ref, _ := member(v, "$ref").(string)
	return strings.TrimPrefix(ref, "#/components/schemas/")
}

// typeOf returns the type of a schema without null; "" if it has none.
func typeOf(schema object) string {
	switch t := schema["type"].(type) {
	case string:
		return t
	case []any:
		for _, one := range t {
			if one != "null" {
				name, _ := one.(string)
				return name
			}
		}
	}
	return ""
}

// requires reports whether an object that conforms to the schema has the property.
func requires(schema object, property string) bool {
	required, _ := schema["required"].([]any)
	return slices.Contains(required, any(property))
}

func member(v any, names ...string) any {
	for _, name := range names {
		o, _ := v.(object)
		v = o[name]
	}
	return v
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// initialisms are the words that Go writes in capitals.
var initialisms = map[string]bool{"id": true, "url": true, "json": true, "jwk": true, "jwks": true, "api": true}

// words returns the words of a name, in lower case unless they are within a word such as LoginInputBody.
func words(name string) []string {
	return strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

// exported returns a name as Go writes what is exported.
func exported(name string) string {
	var b strings.Builder
	for _, w := range words(name) {
		if initialisms[w] {
			b.WriteString(strings.ToUpper(w))
		} else {
			b.WriteString(strings.ToUpper(w[:1]) + w[1:])
		}
	}
	return b.String()
}

// camel returns a name as TypeScript writes methods and parameters, and Go parameters with initialisms in the end.
func camel(name string, initials bool) string {
	var b strings.Builder
	for i, w := range words(name) {
		switch {
		case i == 0:
			b.WriteString(strings.ToLower(w[:1]) + w[1:])
		case initials && initialisms[w]:
			b.WriteString(strings.ToUpper(w))
		default:
			b.WriteString(strings.ToUpper(w[:1]) + w[1:])
		}
	}
	return b.String()
}

// comment returns a text as lines of at most 120 columns with the prefix.
func comment(prefix, text string) string {
	var b strings.Builder
	line := prefix
	for _, w := range strings.Fields(text) {
		if len([]rune(line))+1+len([]rune(w)) > 116 && line != prefix {
			b.WriteString(line + "\n")
			line = prefix
		}
		line += " " + w
	}
	if line != prefix {
		b.WriteString(line + "\n")
	}
	return b.String()
}
