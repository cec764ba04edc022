// Package field reads single fields of JSON documents and compares them. All drivers that compare in Go use it, so that
// they agree on the value of a field.
package field

import (
	"bytes"
	"cmp"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Value returns the field at a path with dots: a bool, a float64 or a string. It returns nil for a missing field and
// for null, an object or an array. It reads no further than the field and never fails: data that is not JSON has no
// fields.
func Value(data []byte, path string) any {
	for more := true; more; {
		var name string
		name, path, more = strings.Cut(path, ".")
		data = member(data, name)
	}
	return scalar(data)
}

// member returns what follows the colon of the named member of an object; nil when there is none.
func member(data []byte, name string) []byte {
	data = space(data)
	if len(data) == 0 || data[0] != '{' {
		return nil
	}
	for {
		data = space(data[1:]) // over '{' or ','
		n := quoted(data)
		if n == 0 {
			return nil
		}
		key := data[:n]
		data = space(data[n:])
		if len(data) == 0 || data[0] != ':' {
			return nil
		}
		data = space(data[1:])
		if is(key, name) {
			return data
		}
		data = space(data[skip(data):])
		if len(data) == 0 || data[0] != ',' {
			return nil
		}
	}
}

func is(key []byte, name string) bool {
	if bytes.IndexByte(key, '\\') < 0 {
		return string(key[1:len(key)-1]) == name
	}
	s, ok := unquote(key)
	return ok && s == name
}

func scalar(data []byte) any {
	token := data[:skip(data)]
	if len(token) == 0 {
		return nil
	}
	switch token[0] {
	case '"':
		if s, ok := unquote(token); ok {
			return s
		}
	case 't':
		return true
	case 'f':
		return false
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		if f, err := strconv.ParseFloat(string(token), 64); err == nil {
			return f + 0 // turns -0 into 0
		}
	}
	return nil
}

func unquote(token []byte) (s string, ok bool) {
	if quoted(token) == 0 {
		return "", false
	}
	if bytes.IndexByte(token, '\\') < 0 && utf8.Valid(token) {
		return string(token[1 : len(token)-1]), true
	}
	err := json.Unmarshal(token, &s)
	return s, err == nil
}

// quoted returns the length of the string at the beginning of data, with its quotes; 0 when there is no string.
func quoted(data []byte) int {
	if len(data) == 0 || data[0] != '"' {
		return 0
	}
	for i := 1; i < len(data); i++ {
		switch data[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

// skip returns the length of the value at the beginning of data; all of data when that is invalid.
func skip(data []byte) int {
	depth := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			n := quoted(data[i:])
			if n == 0 {
				return len(data)
			}
			if depth == 0 {
				return i + n
			}
			i += n - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
		}
	}
	return len(data)
}

func space(data []byte) []byte {
	for i, c := range data {
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return data[i:]
		}
	}
	return nil
}

// Kind returns the rank of a value's kind: nil, bool, number, string.
func Kind(v any) int {
	switch v.(type) {
	case bool:
		return 1
	case float64, int64, int:
		return 2
	case string:
		return 3
	}
	return 0
}

// Compare orders values: nil before false before true before numbers before strings; numbers as float64, strings by
// their bytes.
func Compare(a, b any) int {
	if c := cmp.Compare(Kind(a), Kind(b)); c != 0 {
		return c
	}
	switch a := a.(type) {
	case bool:
		return cmp.Compare(bit(a), bit(b.(bool)))
	case string:
		return strings.Compare(a, b.(string))
	}
	return cmp.Compare(Number(a), Number(b))
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Number returns a number of any accepted type as a float64, and 0 for any other value.
func Number(v any) float64 {
	switch v := v.(type) {
	case float64:
		return v + 0
	case int64:
		return float64(v)
	case int:
		return float64(v)
	}
	return 0
}
