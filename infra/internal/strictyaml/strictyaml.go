// Package strictyaml decodes a YAML or JSON document into a struct and reports every fault of it by line and field. A
// document that has any fault is refused as a whole.
//
// Fields are named by their json tag. A field that the document does not have keeps its value, so that a document can
// change a part of what is already there; a list or a pointer that it has replaces the one before. A field with the tag
// strict:"known" is a map that the document may only change the values of.
//
// The document may have no anchors, no aliases, no second document and no key twice.
package strictyaml

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ebb-dev/ebb/infra/internal/editdistance"
)

// Fault is one thing that is wrong in a document.
type Fault struct {
	Line    int    // 0: of the whole document
	Field   string // with dots between names and [1] for places in lists; "": the document
	Problem string
}

// Error is the faults of a document, sorted by line.
type Error struct {
	Name   string // of the file
	Faults []Fault
}

// Error returns a line for each fault: "FILE:LINE: FIELD: PROBLEM".
func (e *Error) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		line := e.Name
		if f.Line > 0 {
			line += ":" + strconv.Itoa(f.Line)
		}
		if f.Field != "" {
			line += ": " + f.Field
		}
		lines[i] = line + ": " + f.Problem
	}
	return strings.Join(lines, "\n")
}

// Document is a document that was decoded, and where its fields are.
type Document struct {
	name   string
	lines  map[string]int
	faults []Fault
}

// Decode decodes the document of a file into v, which is a pointer to a struct. Faults are noted: see Err.
func Decode(name string, data []byte, v any) *Document {
	d := &Document{name: name, lines: map[string]int{}}
	decoder := yaml.NewDecoder(strings.NewReader(string(data)))
	var root yaml.Node
	if err := decoder.Decode(&root); err != nil {
		if err.Error() != "EOF" { // an empty document changes nothing
			d.syntax(err)
		}
		return d
	}
	if err := decoder.Decode(new(yaml.Node)); err == nil || err.Error() != "EOF" {
		d.Report("", "want one document")
		return d
	}
	d.decode("", root.Content[0], reflect.ValueOf(v).Elem())
	return d
}

var lineOf = regexp.MustCompile(`line (\d+): `)

// syntax notes the error of a document that is not YAML.
func (d *Document) syntax(err error) {
	f := Fault{Problem: strings.TrimPrefix(err.Error(), "yaml: ")}
	if at := lineOf.FindStringSubmatch(f.Problem); at != nil {
		f.Line, _ = strconv.Atoi(at[1])
		f.Problem = strings.TrimPrefix(f.Problem, at[0])
	}
	d.faults = append(d.faults, f)
}

// Report notes a fault of a field, at the line of the field or of what it would be in.
func (d *Document) Report(field, problem string) {
	at := field
	for d.lines[at] == 0 && at != "" {
		at = at[:max(0, strings.LastIndexAny(at, ".["))]
	}
	line := d.lines[at]
	d.note(Fault{line, field, problem})
}

// note adds a fault, once.
func (d *Document) note(f Fault) {
	if !slices.Contains(d.faults, f) {
		d.faults = append(d.faults, f)
	}
}

// Err returns the faults that were noted as an *Error; nil if there are none.
func (d *Document) Err() error {
	if len(d.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(d.faults, func(a, b Fault) int { return a.Line - b.Line })
	return &Error{Name: d.name, Faults: d.faults}
}

// Has reports whether the document has the field.
func (d *Document) Has(field string) bool { return d.lines[field] > 0 }

// Line returns the line of a field; 0 if the document does not have it.
func (d *Document) Line(field string) int { return d.lines[field] }

func join(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

func (d *Document) decode(field string, n *yaml.Node, v reflect.Value) {
	if d.lines[field] == 0 {
		d.lines[field] = n.Line
	}
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.Report(field, "anchors and aliases are not supported")
		return
	case n.Tag == "!!null":
		d.Report(field, "has no value")
		return
	case reflect.PointerTo(v.Type()).Implements(textType):
		d.text(field, n, v)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		next := reflect.New(v.Type().Elem())
		d.decode(field, n, next.Elem())
		v.Set(next)
	case reflect.Struct:
		if d.is(field, n, yaml.MappingNode, "fields") {
			d.object(field, n, v)
		}
	case reflect.Map:
		if d.is(field, n, yaml.MappingNode, "fields") {
			d.dictionary(field, n, v)
		}
	case reflect.Slice:
		if !d.is(field, n, yaml.SequenceNode, "a list") {
			return
		}
		list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
		for i, item := range n.Content {
			d.decode(field+"["+strconv.Itoa(i)+"]", item, list.Index(i))
		}
		v.Set(list)
	default:
		d.scalar(field, n, v)
	}
}

// is reports whether the node is of the kind, and notes what is wanted if it is not.
func (d *Document) is(field string, n *yaml.Node, kind yaml.Kind, want string) bool {
	if n.Kind != kind {
		d.Report(field, "want "+want)
	}
	return n.Kind == kind
}

// object decodes a mapping into the fields of a struct.
func (d *Document) object(field string, n *yaml.Node, v reflect.Value) {
	fields := map[string]reflect.StructField{}
	for _, f := range reflect.VisibleFields(v.Type()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.IsExported() && name != "" && name != "-" {
			fields[name] = f
		}
	}
	d.keys(field, n, func(key, name string, value *yaml.Node) {
		f, ok := fields[name]
		if !ok {
			names := make([]string, 0, len(fields))
			for known := range fields {
				names = append(names, known)
			}
			d.unknown(key, "field", name, names)
			return
		}
		into := v.FieldByIndex(f.Index)
		if f.Tag.Get("strict") == "known" && value.Kind == yaml.MappingNode {
			d.keys(key, value, func(key, name string, _ *yaml.Node) {
				if !into.MapIndex(reflect.ValueOf(name)).IsValid() {
					names := make([]string, 0, into.Len())
					for _, known := range into.MapKeys() {
						names = append(names, known.String())
					}
					d.unknown(key, "entry", name, names)
				}
			})
		}
		d.decode(key, value, into)
	})
}

// unknown notes a name that is not one of those that could be there.
func (d *Document) unknown(key, what, name string, names []string) {
	slices.Sort(names)
	problem := fmt.Sprintf("unknown %s", what)
	if near := editdistance.Nearest(name, names); near != "" {
		problem += fmt.Sprintf(" (did you mean %q?)", near)
	}
	d.Report(key, problem)
}

// dictionary decodes a mapping into a map with text as keys. A value that is there already is changed.
func (d *Document) dictionary(field string, n *yaml.Node, v reflect.Value) {
	next := reflect.MakeMap(v.Type())
	for _, key := range v.MapKeys() {
		next.SetMapIndex(key, v.MapIndex(key))
	}
	d.keys(field, n, func(key, name string, value *yaml.Node) {
		into := reflect.New(v.Type().Elem()).Elem()
		if before := v.MapIndex(reflect.ValueOf(name)); before.IsValid() {
			into.Set(before)
		}
		d.decode(key, value, into)
		next.SetMapIndex(reflect.ValueOf(name), into)
	})
	v.Set(next)
}

// keys calls each with the entries of a mapping.
func (d *Document) keys(field string, n *yaml.Node, each func(key, name string, value *yaml.Node)) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		key := join(field, k.Value)
		if k.Kind != yaml.ScalarNode || k.Tag != "!!str" || k.Anchor != "" {
			d.note(Fault{k.Line, key, "want text as the name of a field"})
			continue
		}
		if seen[k.Value] {
			d.note(Fault{k.Line, key, "duplicate field"})
			continue
		}
		seen[k.Value] = true
		d.lines[key] = k.Line
		each(key, k.Value, n.Content[i+1])
	}
}

// text decodes a scalar into a value that parses itself.
func (d *Document) text(field string, n *yaml.Node, v reflect.Value) {
	if !d.is(field, n, yaml.ScalarNode, "text") {
		return
	}
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
		d.Report(field, err.Error())
	}
}

func (d *Document) scalar(field string, n *yaml.Node, v reflect.Value) {
	var err error
	switch v.Kind() {
	case reflect.String:
		if err = errors.New("want text"); n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
			v.SetString(n.Value)
			err = nil
		}
	case reflect.Bool:
		if err = errors.New("want true or false"); n.Kind == yaml.ScalarNode && n.Tag == "!!bool" {
			err = n.Decode(v.Addr().Interface())
		}
	case reflect.Int, reflect.Int64:
		number, parseErr := strconv.ParseInt(n.Value, 10, 64)
		if err = errors.New("want a whole number"); n.Kind == yaml.ScalarNode && n.Tag == "!!int" && parseErr == nil {
			v.SetInt(number)
			err = nil
		}
	case reflect.Float64:
		number, parseErr := strconv.ParseFloat(n.Value, 64)
		numeric := n.Tag == "!!int" || n.Tag == "!!float"
		if err = errors.New("want a number"); n.Kind == yaml.ScalarNode && numeric && parseErr == nil {
			v.SetFloat(number)
			err = nil
		}
	default:
		err = fmt.Errorf("the type %s is not supported", v.Type())
	}
	if err != nil {
		d.Report(field, err.Error())
	}
}
