package event

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const dialect = "https://json-schema.org/draft/2020-12/schema"

// Schema is a JSON Schema (2020-12), limited to the keywords that event types need. It allows unknown fields, so that
// an optional field can be added without breaking a consumer.
type Schema struct {
	Dialect     string             `json:"$schema,omitempty"`
	ID          string             `json:"$id,omitempty"`
	Title       string             `json:"title,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        string             `json:"type,omitempty"` // none: any JSON
	Format      string             `json:"format,omitempty"`
	Pattern     string             `json:"pattern,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	Minimum     *int64             `json:"minimum,omitempty"`
	Maximum     *int64             `json:"maximum,omitempty"`
	MinLength   *int64             `json:"minLength,omitempty"`
	MaxLength   *int64             `json:"maxLength,omitempty"`
	MinItems    *int64             `json:"minItems,omitempty"`
	MaxItems    *int64             `json:"maxItems,omitempty"`
	Properties  map[string]*Schema `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
	Items       *Schema            `json:"items,omitempty"`
	Values      *Schema            `json:"additionalProperties,omitempty"` // of a map

	fields  []field // the properties, in the order a writer puts them
	pattern *regexp.Regexp
}

// field is a property and its place in the Go struct.
type field struct {
	name     string
	index    int
	required bool
	schema   *Schema
}

// ParseSchema returns the schema that String wrote earlier, to check data or to compare with.
func ParseSchema(raw []byte) (*Schema, error) {
	s := &Schema{}
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	return s, s.compile()
}

func (s *Schema) compile() error {
	if s.Pattern != "" {
		re, err := regexp.Compile(s.Pattern)
		if err != nil {
			return err
		}
		s.pattern = re
	}
	for _, name := range sorted(s.Properties) {
		required := slices.Contains(s.Required, name)
		s.fields = append(s.fields, field{name: name, index: -1, required: required, schema: s.Properties[name]})
	}
	if len(s.fields) > maxFields {
		return fmt.Errorf("more than %d fields", maxFields)
	}
	for _, child := range s.children() {
		if err := child.compile(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Schema) children() []*Schema {
	var all []*Schema
	for _, p := range s.Properties {
		all = append(all, p)
	}
	for _, child := range []*Schema{s.Items, s.Values} {
		if child != nil {
			all = append(all, child)
		}
	}
	return all
}

// maxFields is the number of bits in the set of the fields that were seen.
const maxFields = 64

var (
	timeType = reflect.TypeFor[time.Time]()
	rawType  = reflect.TypeFor[json.RawMessage]()
	patterns sync.Map // of *regexp.Regexp by their text, compiled once each
)

// schemaOf derives the schema of a type's data. It panics if the Go type allows something that a schema cannot express.
func schemaOf(info *Info) *Schema {
	if info.GoType.Kind() != reflect.Struct || info.GoType == timeType {
		panic(info.Name + ": data is not a struct, so no field could ever be added")
	}
	s := derive(info.GoType, "", info.Name, 0)
	s.Dialect, s.ID, s.Title, s.Description = dialect, info.DataSchema, info.Name, info.Doc
	return s
}

func derive(t reflect.Type, tag reflect.StructTag, at string, depth int) *Schema {
	if depth > 16 {
		panic(at + ": nested too deep, or in itself")
	}
	s := &Schema{Description: tag.Get("doc")}
	switch {
	case t.Kind() == reflect.Pointer:
		return derive(t.Elem(), tag, at, depth+1)
	case t == timeType:
		s.Type, s.Format = "string", "date-time"
	case t == rawType:
		s.Type = tag.Get("type")
	default:
		s.byKind(t, at, depth)
	}
	s.constrain(tag, at)
	return s
}

func (s *Schema) byKind(t reflect.Type, at string, depth int) {
	switch t.Kind() {
	case reflect.String:
		s.Type = "string"
	case reflect.Bool:
		s.Type = "boolean"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		s.Type = "integer"
		if bits := t.Bits(); bits < 64 { // an integer of 64 bits holds all that JSON's readers agree on
			most := int64(1)<<(bits-1) - 1
			least := -most - 1
			s.Minimum, s.Maximum = &least, &most
		}
	case reflect.Slice:
		s.Type, s.Items = "array", derive(t.Elem(), "", at+"[]", depth+1)
	case reflect.Map:
		if t.Key() != reflect.TypeFor[string]() {
			panic(at + ": the keys of a map are strings")
		}
		s.Type, s.Values = "object", derive(t.Elem(), "", at+".*", depth+1)
	case reflect.Struct:
		s.Type = "object"
		s.addFields(t, at, depth)
	default:
		panic(fmt.Sprintf("%s: %s has no place in an event", at, t))
	}
}

func (s *Schema) addFields(t reflect.Type, at string, depth int) {
	if t.NumField() > maxFields {
		panic(fmt.Sprintf("%s: more than %d fields", at, maxFields))
	}
	s.Properties = map[string]*Schema{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" || f.Anonymous || !f.IsExported() {
			panic(fmt.Sprintf("%s: field %s wants a json name of its own", at, f.Name))
		}
		if f.Type.Kind() == reflect.Struct && options == "omitempty" {
			panic(fmt.Sprintf("%s: field %s is a struct, never empty; it wants omitzero", at, f.Name))
		}
		required := !strings.Contains(options, "omit")
		child := derive(f.Type, f.Tag, at+"."+name, depth+1)
		s.Properties[name] = child
		s.fields = append(s.fields, field{name: name, index: i, required: required, schema: child})
		if required {
			s.Required = append(s.Required, name)
		}
	}
}

func (s *Schema) constrain(tag reflect.StructTag, at string) {
	if least := limit(tag, "min", at); least != nil {
		s.Minimum = least
	}
	if most := limit(tag, "max", at); most != nil {
		s.Maximum = most
	}
	least, most := limit(tag, "minLength", at), limit(tag, "maxLength", at)
	if s.Type == "array" {
		s.MinItems, s.MaxItems = least, most
	} else {
		s.MinLength, s.MaxLength = least, most
	}
	if f := tag.Get("format"); f != "" {
		if formats[f] == nil {
			panic(at + ": unknown format " + f)
		}
		s.Format = f
	}
	if e := tag.Get("enum"); e != "" {
		s.Enum = strings.Split(e, ",")
	}
	if p := tag.Get("pattern"); p != "" {
		compiled, known := patterns.Load(p)
		if !known {
			compiled, _ = patterns.LoadOrStore(p, regexp.MustCompile(p))
		}
		s.Pattern, s.pattern = p, compiled.(*regexp.Regexp)
	}
}

func limit(tag reflect.StructTag, key, at string) *int64 {
	text, ok := tag.Lookup(key)
	if !ok {
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("%s: %s is not an integer: %q", at, key, text))
	}
	return &n
}
