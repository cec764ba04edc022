package personal

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fields are the personal fields of a struct type, and the field with the id of the person whom they are about. Methods
// may be called concurrently.
type Fields struct {
	person path
	fields []field
	secret bool
}

// field is a personal field: a string.
type field struct {
	name        string // its path in JSON, with dots
	placeholder string
	at          path
}

// path leads to a field, through structs and pointers to structs.
type path []int

var known sync.Map // reflect.Type → *Fields

// FieldsOf returns the personal fields of a struct type; nil when it has none. A string field is personal when it has
// the tag personal, whose value takes its place where the person is erased; a string field with the tag person:"id" has
// the person's id. A personal field with the tag secret:"true" too gives power to whoever learns it; see Secret.
//
// It panics when fields are personal and no field has the id, and on a tag at another kind of field, within a list or a
// map, or in a type that is within itself: such a field would be sent and stored in the clear.
func FieldsOf(t reflect.Type) *Fields {
	if f, ok := known.Load(t); ok {
		return f.(*Fields)
	}
	var f *Fields
	if t.Kind() == reflect.Struct {
		found := &Fields{}
		found.collect(t, t, nil, "", 0)
		if len(found.fields) > 0 {
			if found.person == nil {
				panic(fmt.Sprintf(`personal: %s has personal fields and none with the tag person:"id"`, t))
			}
			f = found
		}
	}
	known.Store(t, f)
	return f
}

func (f *Fields) collect(root, t reflect.Type, at path, prefix string, depth int) {
	if t == reflect.TypeFor[time.Time]() {
		return
	}
	if depth > maxDepth {
		if name := hidden(t, nil); name != "" {
			panic(fmt.Sprintf("personal: field %s of %s is nested too deep, or in itself", name, root))
		}
		return
	}
	for i := range t.NumField() {
		s := t.Field(i)
		name, _, _ := strings.Cut(s.Tag.Get("json"), ",")
		here := append(append(path(nil), at...), i)
		placeholder, isPersonal := s.Tag.Lookup("personal")
		_, isPerson := s.Tag.Lookup("person")
		inner := s.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch {
		case !s.IsExported():
		case (isPersonal || isPerson) && s.Type.Kind() != reflect.String:
			panic(fmt.Sprintf("personal: field %s of %s is no string", s.Name, root))
		case isPerson && f.person == nil:
			f.person = here
		case isPersonal:
			f.fields = append(f.fields, field{prefix + name, placeholder, here})
			f.secret = f.secret || s.Tag.Get("secret") == "true"
		case name == "-":
		case inner.Kind() == reflect.Struct:
			f.collect(root, inner, here, prefix+name+".", depth+1)
		default:
			if name := hidden(s.Type, nil); name != "" {
				panic(fmt.Sprintf("personal: field %s of %s is within a list or a map", name, root))
			}
		}
	}
}

// maxDepth is how deep personal fields may be nested.
const maxDepth = 8

// hidden returns the name of a field with a tag that is somewhere in a type; "": there is none. The types above are
// those that it is within.
func hidden(t reflect.Type, above []reflect.Type) string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Array || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || slices.Contains(above, t) {
		return ""
	}
	above = append(above, t)
	for i := range t.NumField() {
		s := t.Field(i)
		if name, _, _ := strings.Cut(s.Tag.Get("json"), ","); name == "-" || !s.IsExported() {
			continue
		}
		_, isPersonal := s.Tag.Lookup("personal")
		if isPersonal {
			return s.Name
		}
		if name := hidden(s.Type, above); name != "" {
			return name
		}
	}
	return ""
}

// get returns the string at the path; "" behind a nil pointer.
func (p path) get(v reflect.Value) string {
	for _, i := range p {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return ""
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	return v.String()
}

// set replaces the string at the path. It copies what pointers on the way point to, so that only v changes.
func (p path) set(v reflect.Value, to string) {
	for _, i := range p {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return
			}
			copied := reflect.New(v.Type().Elem())
			copied.Elem().Set(v.Elem())
			v.Set(copied)
			v = copied.Elem()
		}
		v = v.Field(i)
	}
	v.SetString(to)
}

// Take returns a copy of a value with placeholders in its personal fields, the id of the person, and what the fields
// had, by their names; no values when all of them are empty.
func Take[T any](f *Fields, v T) (redacted T, person string, values map[string]string) {
	r := reflect.ValueOf(&v).Elem()
	if r.Kind() == reflect.Interface {
		inner := reflect.New(r.Elem().Type()).Elem()
		inner.Set(r.Elem())
		person, values = f.take(inner)
		r.Set(inner)
		return v, person, values
	}
	person, values = f.take(r)
	return v, person, values
}

func (f *Fields) take(r reflect.Value) (person string, values map[string]string) {
	for _, field := range f.fields {
		value := field.at.get(r)
		if value == "" {
			continue
		}
		if values == nil {
			values = map[string]string{}
		}
		values[field.name] = value
		field.at.set(r, field.placeholder)
	}
	return f.person.get(r), values
}

// Put sets personal fields of *v to the values that Take has returned. It leaves a field without a value as it is.
func (f *Fields) Put(v any, values map[string]string) {
	r := reflect.ValueOf(v).Elem()
	for _, field := range f.fields {
		if value, ok := values[field.name]; ok {
			field.at.set(r, value)
		}
	}
}

// Secret reports whether a personal field is a secret, such as a token that sets a password: then nobody but the
// function that made a value may say where it goes.
func (f *Fields) Secret() bool { return f != nil && f.secret }

// String returns the names of the personal fields, sorted.
func (f *Fields) String() string {
	var names []string
	for _, field := range f.fields {
		names = append(names, field.name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// Placeholders returns the placeholders of the personal fields, by their names.
func (f *Fields) Placeholders() map[string]string {
	all := map[string]string{}
	for _, field := range f.fields {
		all[field.name] = field.placeholder
	}
	return all
}

// Each replaces each personal field of *v that is not empty by what change makes of it. Change gets the id of the
// person and the placeholder of the field.
func (f *Fields) Each(v any, change func(person, value, placeholder string) (string, error)) error {
	r := reflect.ValueOf(v).Elem()
	person := f.person.get(r)
	for _, field := range f.fields {
		value := field.at.get(r)
		if value == "" {
			continue
		}
		changed, err := change(person, value, field.placeholder)
		if err != nil {
			return err
		}
		field.at.set(r, changed)
	}
	return nil
}
