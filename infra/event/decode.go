package event

import (
	"fmt"
	"reflect"
	"slices"
	"time"
)

// Violation is an error about one place in the data of an event.
type Violation struct {
	Path    string // in the style of $.lines[0].quantity
	Message string
}

func (v *Violation) Error() string { return v.Path + " " + v.Message }

// Validate checks raw JSON against the schema and returns a *Violation that names the first place that does not
// conform; nil if all does. It is stricter than encoding/json: names match exactly, a known field comes once, null is
// not a value, text is valid Unicode.
func (s *Schema) Validate(raw []byte) error { return s.decode(raw, reflect.Value{}) }

// decode checks raw and, where into is valid, stores it there. It does both in one pass, because every event is decoded
// at least twice.
func (s *Schema) decode(raw []byte, into reflect.Value) error {
	p := parser{raw: raw}
	v := p.value(s, into, 0)
	if v == nil {
		if p.space(); p.at < len(raw) {
			v = p.syntax("more after the end of the JSON")
		}
	}
	if v != nil {
		v.Path = "$" + v.Path
		return v
	}
	return nil
}

func violationf(format string, args ...any) *Violation {
	return &Violation{Message: fmt.Sprintf(format, args...)}
}

func (v *Violation) in(step string) *Violation {
	v.Path = step + v.Path
	return v
}

func (p *parser) value(s *Schema, into reflect.Value, depth int) *Violation {
	if into.IsValid() && into.Kind() == reflect.Pointer {
		into.Set(reflect.New(into.Type().Elem()))
		into = into.Elem()
	}
	switch s.Type {
	case "string":
		return p.text(s, into)
	case "integer":
		return p.integer(s, into)
	case "boolean":
		return p.boolean(into)
	case "array":
		return p.array(s, into, depth)
	case "object":
		if s.Values != nil {
			return p.dictionary(s, into, depth)
		}
		if s.fields != nil {
			return p.object(s, into, depth)
		}
	}
	return p.anything(s, into, depth)
}

func (p *parser) object(s *Schema, into reflect.Value, depth int) *Violation {
	var seen uint64
	guess := 0
	v := p.members(depth, func(name []byte) *Violation {
		i := s.fieldAt(name, guess)
		if i < 0 {
			return p.skip(depth + 1) // a field of a later version
		}
		guess = i + 1
		f := &s.fields[i]
		if seen&(1<<i) != 0 {
			return violationf("comes twice")
		}
		seen |= 1 << i
		var inner reflect.Value
		if into.IsValid() {
			inner = into.Field(f.index)
		}
		return p.value(f.schema, inner, depth+1)
	})
	if v != nil {
		return v
	}
	for i := range s.fields {
		if f := &s.fields[i]; f.required && seen&(1<<i) == 0 {
			return violationf("is missing").in("." + f.name)
		}
	}
	return nil
}

// fieldAt returns a property by its name. Writers keep the order of the struct, so the guess is nearly always right.
func (s *Schema) fieldAt(name []byte, guess int) int {
	if guess < len(s.fields) && s.fields[guess].name == string(name) {
		return guess
	}
	for i := range s.fields {
		if s.fields[i].name == string(name) {
			return i
		}
	}
	return -1
}

func (p *parser) array(s *Schema, into reflect.Value, depth int) *Violation {
	if into.IsValid() {
		into.Set(reflect.MakeSlice(into.Type(), 0, 0))
	}
	count := int64(0)
	v := p.elements(depth, func(i int) *Violation {
		count++
		if s.MaxItems != nil && count > *s.MaxItems {
			return violationf("is one too many: at most %d", *s.MaxItems)
		}
		var inner reflect.Value
		if into.IsValid() {
			into.Grow(1)
			into.SetLen(i + 1)
			inner = into.Index(i)
		}
		return p.value(s.Items, inner, depth+1)
	})
	if v == nil && s.MinItems != nil && count < *s.MinItems {
		return violationf("must have at least %d items, has %d", *s.MinItems, count)
	}
	return v
}

func (p *parser) dictionary(s *Schema, into reflect.Value, depth int) *Violation {
	if into.IsValid() {
		into.Set(reflect.MakeMap(into.Type()))
	}
	return p.members(depth, func(name []byte) *Violation {
		if !into.IsValid() {
			return p.value(s.Values, into, depth+1)
		}
		key := reflect.ValueOf(string(name))
		inner := reflect.New(into.Type().Elem()).Elem()
		v := p.value(s.Values, inner, depth+1)
		into.SetMapIndex(key, inner)
		return v
	})
}

// anything accepts any JSON value, or any object where the schema wants an object.
func (p *parser) anything(s *Schema, into reflect.Value, depth int) *Violation {
	if s.Type == "object" && p.peek() != '{' {
		return p.expected("an object")
	}
	p.space()
	from := p.at
	if v := p.skip(depth); v != nil {
		return v
	}
	if into.IsValid() {
		into.SetBytes(slices.Clone(p.raw[from:p.at]))
	}
	return nil
}

func (p *parser) boolean(into reflect.Value) *Violation {
	p.space()
	yes := p.word("true")
	if !yes && !p.word("false") {
		return p.expected("a boolean")
	}
	if into.IsValid() {
		into.SetBool(yes)
	}
	return nil
}

func (p *parser) integer(s *Schema, into reflect.Value) *Violation {
	p.space()
	length := numberLength(p.raw[p.at:])
	if length == 0 {
		return p.expected("an integer")
	}
	n, ok := parseInt(p.raw[p.at : p.at+length])
	if !ok || into.IsValid() && into.OverflowInt(n) {
		return violationf("must be an integer that fits, is %.40s", p.raw[p.at:p.at+length])
	}
	p.at += length
	switch {
	case s.Minimum != nil && n < *s.Minimum:
		return violationf("must be at least %d, is %d", *s.Minimum, n)
	case s.Maximum != nil && n > *s.Maximum:
		return violationf("must be at most %d, is %d", *s.Maximum, n)
	}
	if into.IsValid() {
		into.SetInt(n)
	}
	return nil
}

func (p *parser) text(s *Schema, into reflect.Value) *Violation {
	if p.peek() != '"' {
		return p.expected("a string")
	}
	text, v := p.quoted()
	if v != nil {
		return v
	}
	if v := s.checkText(text); v != nil {
		return v
	}
	switch {
	case s.Format == "date-time":
		return storeTime(text, into)
	case into.IsValid():
		into.SetString(string(text))
	}
	return nil
}

// parseTime is stricter than package time: an hour has two digits, a fraction begins with a point. In UTC the year has
// four digits too, or the time could not be written again.
func parseTime(text []byte) (time.Time, bool) {
	if len(text) < len("2006-01-02T15:04:05Z") || text[13] != ':' || text[19] == ',' {
		return time.Time{}, false
	}
	var t time.Time
	if err := t.UnmarshalText(text); err != nil {
		return t, false
	}
	t = t.UTC()
	return t, t.Year() >= 0 && t.Year() <= 9999
}

func storeTime(text []byte, into reflect.Value) *Violation {
	t, ok := parseTime(text)
	if !ok {
		return violationf("must be a time of RFC 3339, is %.40q", text)
	}
	if !into.IsValid() {
		return nil
	}
	if to, ok := into.Addr().Interface().(*time.Time); ok {
		*to = t
	} else {
		into.SetString(string(text))
	}
	return nil
}
