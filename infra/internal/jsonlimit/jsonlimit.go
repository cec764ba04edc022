// Package jsonlimit refuses JSON texts that would cost far more memory than they have bytes, before they are decoded: a body
// of 1 MiB may hold 300,000 empty objects. It also finds what decoders disagree about: names that an object has twice, and
// numbers that no float64 holds.
package jsonlimit

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/ebb-dev/ebb/infra/fault"
)

// The limits of every text. A name is part of the place of each fault beneath it, and so of the answer.
const (
	MaxDepth = 32
	MaxName  = 256
)

// Shape is what is expected of a value, as far as it bounds arrays. Nil expects nothing.
type Shape struct {
	MaxItems int               // of an array; 0: any number
	Items    *Shape            // of an array
	Fields   map[string]*Shape // of an object
	Others   *Shape            // of an object: the members that are not in Fields
}

// Check returns nil, or the fault.Invalid of the first thing that is refused: nesting deeper than MaxDepth, more values than
// given, names longer than MaxName bytes, arrays longer than the shape allows, names that an object has twice (RFC 7493
// section 2.3), numbers outside the range of float64. A text that is not JSON is not refused: its decoder knows better what
// is wrong. Check allocates nothing but names.
func Check(text []byte, values int, shape *Shape) error {
	if !json.Valid(text) {
		return nil
	}
	s := scanner{text: text, values: values}
	return s.run(shape)
}

type scanner struct {
	text   []byte
	values int // that may still come
	open   []container
	names  []string // of the open objects, one object's after another's
}

// container is an object or an array that is not at its end yet.
type container struct {
	shape  *Shape
	object bool
	value  bool            // of an object: a value comes next
	items  int             // of an array
	first  int             // of an object: where its names begin
	seen   map[string]bool // of an object with many names
	name   string          // of an object: of the value that comes next
}

func (s *scanner) run(shape *Shape) error {
	for at := 0; at < len(s.text); {
		switch c := s.text[at]; c {
		case ' ', '\t', '\r', '\n', ',', ':':
			at++
		case '}', ']':
			last := &s.open[len(s.open)-1]
			s.names = s.names[:min(last.first, len(s.names))]
			s.open = s.open[:len(s.open)-1]
			at++
		case '"':
			end := s.stringEnd(at)
			if in := s.in(); in != nil && in.object && !in.value {
				if err := s.name(in, s.text[at:end]); err != nil {
					return err
				}
			} else if _, err := s.value(shape); err != nil {
				return err
			}
			at = end
		case '{', '[':
			of, err := s.value(shape)
			if err != nil {
				return err
			}
			if len(s.open) == MaxDepth {
				return refuse("the body is nested deeper than %d levels", MaxDepth)
			}
			s.open = append(s.open, container{shape: of, object: c == '{', first: len(s.names)})
			at++
		default:
			if _, err := s.value(shape); err != nil {
				return err
			}
			end := s.literalEnd(at)
			if _, err := strconv.ParseFloat(string(s.text[at:end]), 64); err != nil && (c == '-' || c >= '0' && c <= '9') {
				return s.fault("number is out of range")
			}
			at = end
		}
	}
	return nil
}

func (s *scanner) in() *container {
	if len(s.open) == 0 {
		return nil
	}
	return &s.open[len(s.open)-1]
}

// value counts a value that begins here, and returns its shape.
func (s *scanner) value(whole *Shape) (*Shape, error) {
	if s.values--; s.values < 0 {
		return nil, refuse("the body holds too many values")
	}
	in := s.in()
	if in == nil {
		return whole, nil
	}
	if in.object {
		in.value = false
		if in.shape == nil {
			return nil, nil
		}
		if of, ok := in.shape.Fields[in.name]; ok {
			return of, nil
		}
		return in.shape.Others, nil
	}
	if in.items++; in.shape == nil {
		return nil, nil
	}
	if most := in.shape.MaxItems; most > 0 && in.items > most {
		s.open = s.open[:len(s.open)-1]
		return nil, s.fault(fmt.Sprintf("expected array length <= %d", most))
	}
	return in.shape.Items, nil
}

// many is how many names an object has at least whose names are looked up in a map.
const many = 16

// name takes the name of a member.
func (s *scanner) name(in *container, quoted []byte) error {
	if len(quoted) > MaxName+2 {
		return refuse("a name in the body is longer than %d bytes", MaxName)
	}
	var name string
	if err := json.Unmarshal(quoted, &name); err != nil {
		return refuse("a name in the body cannot be read")
	}
	twice := in.seen[name]
	if own := s.names[in.first:]; in.seen == nil {
		for _, other := range own {
			twice = twice || other == name
		}
		if len(own) == many {
			in.seen = make(map[string]bool, 2*many)
			for _, other := range own {
				in.seen[other] = true
			}
		}
	}
	if twice {
		return refuse("%q stands twice in one object of the body", name)
	}
	if in.seen != nil {
		in.seen[name] = true
	} else {
		s.names = append(s.names, name)
	}
	in.name, in.value = name, true
	return nil
}

func (s *scanner) stringEnd(at int) int {
	for at++; s.text[at] != '"'; at++ {
		if s.text[at] == '\\' {
			at++
		}
	}
	return at + 1
}

func (s *scanner) literalEnd(at int) int {
	for ; at < len(s.text); at++ {
		switch s.text[at] {
		case ' ', '\t', '\r', '\n', ',', ']', '}':
			return at
		}
	}
	return at
}

// fault is about the value that was last begun.
func (s *scanner) fault(message string) error {
	place := "body"
	for _, c := range s.open {
		if c.object {
			place += "." + c.name
		} else {
			place += "[" + strconv.Itoa(c.items-1) + "]"
		}
	}
	return fault.New(fault.Invalid, "validation failed").With(fault.Detail{Location: place, Message: message})
}

func refuse(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).WithStatus(http.StatusBadRequest)
}
