package store

import (
	"bytes"
	"encoding/json"
	"iter"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// membersOf returns the JSON names of a struct's members, each also folded; nil for a type that is not a struct or has
// its own MarshalJSON, and so may have any.
func membersOf(t reflect.Type) map[string]bool {
	if t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Marshaler]()) {
		return nil
	}
	names := map[string]bool{}
	for _, name := range memberNames(t) {
		names[name], names[folded(name)] = true, true
	}
	return names
}

// memberNames returns the JSON names of a struct's members.
func memberNames(t reflect.Type) (names []string) {
	for _, f := range reflect.VisibleFields(t) {
		tag := f.Tag.Get("json")
		name, _, _ := strings.Cut(tag, ",")
		switch {
		case tag == "-" || !f.IsExported() || f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
		case name == "":
			names = append(names, f.Name)
		default:
			names = append(names, name)
		}
	}
	return names
}

// MemberLike returns the member of the collection's type that encoding/json decodes a member of this name into: it may
// differ in case. It returns "" for none, and for a type that may have any members.
func (s Spec) MemberLike(name string) string {
	if s.Type == nil || membersOf(s.Type) == nil {
		return ""
	}
	names := memberNames(s.Type)
	if slices.Contains(names, name) {
		return name
	}
	like := slices.IndexFunc(names, func(known string) bool { return folded(known) == folded(name) })
	if like < 0 {
		return ""
	}
	return names[like]
}

// folded returns a name in the form that is the same for all names that encoding/json takes for one another when it
// decodes a member: they differ in case only.
func folded(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			least = min(least, other)
		}
		return least
	}, name)
}

// preserve returns the new document data with those members of the document before that are not known. A member whose
// name differs from a known one in case only is known: kept, it would be decoded in place of the new one. Both are JSON
// objects, as every driver guarantees; data may be overwritten.
func preserve(before, data json.RawMessage, known map[string]bool) json.RawMessage {
	out := data
	for name, member := range members(before) {
		if bytes.IndexByte(name, '\\') >= 0 || !utf8.Valid(name) {
			name = unescaped(name)
		}
		if known[string(name)] || known[folded(string(name))] {
			continue
		}
		out = out[:len(out)-1] // the brace
		if len(out) > len(`{`) {
			out = append(out, ',')
		}
		out = append(append(out, member...), '}')
	}
	return out
}

// unescaped returns a name as encoding/json decodes it, which replaces invalid UTF-8 by U+FFFD.
func unescaped(name []byte) []byte {
	var plain string
	if json.Unmarshal(slices.Concat([]byte{'"'}, name, []byte{'"'}), &plain) != nil {
		return name // no driver stores such a document
	}
	return []byte(plain)
}

// members iterates over the members of a JSON object: the name of each, still escaped, and the whole member with its
// value.
func members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, member []byte) bool) {
		depth, start, name := 0, -1, []byte(nil)
		for i := 0; i < len(object); i++ {
			switch c := object[i]; c {
			case '"':
				end := i + 1
				for end < len(object) && object[end] != '"' {
					if object[end] == '\\' {
						end++
					}
					end++
				}
				if depth == 1 && start < 0 {
					start, name = i, object[i+1:min(end, len(object))]
				}
				i = end
			case '{', '[':
				depth++
			case '}', ']', ',':
				if depth == 1 && start >= 0 {
					if !yield(name, bytes.TrimRight(object[start:i], " \t\r\n")) {
						return
					}
					start = -1
				}
				if c != ',' {
					depth--
				}
			}
		}
	}
}
