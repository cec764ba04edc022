// Package jsonlimit refuses JSON texts that would need far more memory than they have bytes, before they are decoded: a
// body of 1 MiB may have 300,000 empty objects. It also refuses what decoders handle differently: names that an object
// has twice, and numbers outside the range of float64.
package jsonlimit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ebb-dev/ebb/infra/fault"
)

// The limits of every text. Names are limited because the location of each violation below them repeats them in the
// response.
const (
	MaxDepth = 32
	MaxName  = 128
)

// maxFaults is the most missing or unknown members. A validator would report each of them.
const maxFaults = 100

// Shape is the part of a value's schema that limits arrays and the number of violations. A nil Shape limits nothing.
type Shape struct {
	MaxItems int               // of an array; 0: any number
	Items    *Shape            // of an array
	Fields   map[string]*Shape // of an object
	Others   *Shape            // of an object: the members that are not in Fields
	Closed   bool              // of an object: other members are violations
	Required map[string]bool   // of an object: the required members
}

// Check returns nil, or the fault.Invalid of the first violation: nesting deeper than MaxDepth, more values than given,
// names longer than MaxName bytes, arrays longer than the shape allows, more than 100 missing or unknown members, names
// that an object has twice (RFC 7493 section 2.3) or in another case than the shape, numbers outside the range of
// float64. Invalid JSON is not refused, because the decoder has a better error for it. Check allocates little: names
// are compared by their hashes of 64 bits.
func Check(text []byte, values int, shape *Shape) error {
	if !json.Valid(text) {
		return nil
	}
	s := scanner{text: text, values: values}
	return s.run(shape)
}

type scanner struct {
	text   []byte
	values int // that may still follow
	faults int
	open   []container
	names  []uint64 // hashes of the names of the open objects, one object's after another's
}

// container is an open object or array.
type container struct {
	shape  *Shape
	object bool
	value  bool            // of an object: a value comes next
	items  int             // of an array
	first  int             // of an object: the index of its first name
	seen   map[uint64]bool // of an object with many names
	name   []byte          // of an object: the name of the next value
	needed int             // of an object: the number of required members still missing
}

func (s *scanner) run(shape *Shape) error {
	for at := 0; at < len(s.text); {
		switch c := s.text[at]; c {
		case ' ', '\t', '\r', '\n', ',', ':':
			at++
		case '}', ']':
			last := &s.open[len(s.open)-1]
			if s.faults += last.needed; s.faults > maxFaults {
				return s.tooMany()
			}
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
			in := container{shape: of, object: c == '{', first: len(s.names)}
			if of != nil && in.object {
				in.needed = len(of.Required)
			}
			s.open = append(s.open, in)
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

// value counts a value at its beginning, and returns its shape.
func (s *scanner) value(whole *Shape) (*Shape, error) {
	if s.values--; s.values < 0 {
		return nil, refuse("the body has too many values")
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
		if of, ok := in.shape.Fields[string(in.name)]; ok {
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

var seed = maphash.MakeSeed()

// many is the number of names from which on an object's names are looked up in a map.
const many = 16

// name handles the name of a member.
func (s *scanner) name(in *container, quoted []byte) error {
	if len(quoted) > MaxName+2 {
		return refuse("a name in the body is longer than %d bytes", MaxName)
	}
	name := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(name, '\\') >= 0 || !utf8.Valid(name) {
		var plain string
		if err := json.Unmarshal(quoted, &plain); err != nil {
			return refuse("invalid name in the body")
		}
		name = []byte(plain)
	}
	hash := maphash.Bytes(seed, name)
	own := s.names[in.first:]
	twice := in.seen[hash] || in.seen == nil && slices.Contains(own, hash)
	if in.seen == nil && len(own) == many {
		in.seen = make(map[uint64]bool, 2*many)
		for _, other := range own {
			in.seen[other] = true
		}
	}
	if twice {
		return refuse("duplicate member %q in an object of the body", name)
	}
	if in.seen != nil {
		in.seen[hash] = true
	} else {
		s.names = append(s.names, hash)
	}
	in.name, in.value = name, true
	if of := in.shape; of != nil {
		if of.Required[string(name)] {
			in.needed--
		}
		if _, known := of.Fields[string(name)]; !known {
			if err := s.unknown(of, string(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// unknown handles the name of a member that the shape does not have. One that differs from a field's name in case only
// is refused: encoding/json decodes it as that field, although a validator does not see it.
func (s *scanner) unknown(of *Shape, name string) error {
	for field := range of.Fields {
		if strings.EqualFold(field, name) {
			return s.fault("unexpected property")
		}
	}
	if !of.Closed {
		return nil
	}
	if s.faults++; s.faults > maxFaults {
		return s.tooMany()
	}
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

// fault returns a violation at the value that was begun last.
func (s *scanner) fault(message string) error {
	place := "body"
	for _, c := range s.open {
		if c.object {
			place += "." + string(c.name)
		} else {
			place += "[" + strconv.Itoa(c.items-1) + "]"
		}
	}
	return fault.New(fault.Invalid, "validation failed").With(fault.Detail{Location: place, Message: message})
}

func (s *scanner) tooMany() error {
	message := fmt.Sprintf("more than %d members are missing or unknown", maxFaults)
	return fault.New(fault.Invalid, "validation failed").With(fault.Detail{Location: "body", Message: message})
}

func refuse(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).WithStatus(http.StatusBadRequest)
}
