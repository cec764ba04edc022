package postgres

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// stored returns the stored form of a document: the JSONB, which is used by indexes and can be queried by people, and
// the exact bytes when JSONB would change the document. JSONB rewrites numbers with an exponent and the negative zero,
// removes duplicate members, and refuses NUL, halves of surrogate pairs and invalid UTF-8. For such a document the
// JSONB has the values that package field finds, which decide in queries.
func stored(data []byte) (doc string, exact []byte) {
	if plain(data) {
		return text(data), nil
	}
	r := rewriter{in: json.NewDecoder(bytes.NewReader(data))}
	r.in.UseNumber()
	if err := r.document(); err != nil || !r.changed {
		return text(data), nil // PostgreSQL refuses invalid JSON
	}
	return r.out.String(), data
}

// text returns data as a string without a copy; pgx copies it into its message.
func text(data []byte) string { return unsafe.String(unsafe.SliceData(data), len(data)) }

// The limits of plain; beyond them the rewriter decides. A number of this length is within the range of float64.
const (
	plainNumber = 300
	plainNames  = 64
)

// plain reports whether JSONB certainly preserves the document. It is fast, and returns false for some that JSONB
// preserves.
func plain(data []byte) bool {
	if !utf8.Valid(data) {
		return false
	}
	var names [][]byte // of all open objects
	var open []int     // the index of each object's first name; arrays have none
	for i := 0; i < len(data); {
		switch c := data[i]; {
		case c == '{' || c == '[':
			open = append(open, len(names))
			i++
		case c == '}' || c == ']':
			if len(open) == 0 {
				return false
			}
			names, open = names[:open[len(open)-1]], open[:len(open)-1]
			i++
		case c == '"':
			n, escaped, ok := plainString(data[i:])
			if !ok {
				return false
			}
			token := data[i : i+n]
			i += n
			if rest := bytes.TrimLeft(data[i:], " \t\r\n"); len(rest) == 0 || rest[0] != ':' {
				continue
			}
			if len(open) == 0 || escaped {
				return false
			}
			others := names[open[len(open)-1]:]
			if len(others) >= plainNames || slices.ContainsFunc(others, func(o []byte) bool { return bytes.Equal(o, token) }) {
				return false
			}
			names = append(names, token)
		case c == '-' || '0' <= c && c <= '9':
			n := bytes.IndexAny(data[i:], ",]} \t\r\n")
			if n < 0 {
				n = len(data) - i
			}
			if !keepsNumber(text(data[i : i+n])) {
				return false
			}
			i += n
		default:
			i++
		}
	}
	return true
}

// plainString returns the length of the string at the beginning of data, whether it has escapes, and whether JSONB
// preserves it.
func plainString(data []byte) (n int, escaped, ok bool) {
	for i := 1; i < len(data); i++ {
		switch data[i] {
		case '"':
			return i + 1, escaped, true
		case '\\':
			escaped = true
			i++
			if i+4 < len(data) && data[i] == 'u' {
				if code := string(data[i+1 : i+5]); code == "0000" || code == "0001" || code[0]|0x20 == 'd' && code[1] >= '8' {
					return 0, escaped, false
				}
			}
		}
	}
	return 0, escaped, false
}

// keepsNumber reports whether JSONB preserves a number's text and the number is within the range of float64.
func keepsNumber(token string) bool {
	if len(token) > plainNumber || strings.ContainsAny(token, "eE") {
		return false
	}
	return token[0] != '-' || strings.Trim(token, "-0.") != ""
}

// rewriter copies a document in a form that JSONB preserves.
type rewriter struct {
	in      *json.Decoder
	out     bytes.Buffer
	changed bool
}

func (r *rewriter) document() error {
	if err := r.value(); err != nil {
		return err
	}
	if _, err := r.in.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	return nil
}

func (r *rewriter) value() error {
	token, err := r.in.Token()
	if err != nil {
		return err
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return r.object()
		}
		return r.array()
	case string:
		r.text(t)
	case json.Number:
		r.number(t.String())
	case bool:
		r.out.WriteString(strconv.FormatBool(t))
	default:
		r.out.WriteString("null")
	}
	return nil
}

func (r *rewriter) array() error {
	r.out.WriteByte('[')
	for n := 0; r.in.More(); n++ {
		if n > 0 {
			r.out.WriteByte(',')
		}
		if err := r.value(); err != nil {
			return err
		}
	}
	r.out.WriteByte(']')
	_, err := r.in.Token()
	return err
}

// object copies the first of several members with the same name, as package field does.
func (r *rewriter) object() error {
	seen := map[string]bool{}
	r.out.WriteByte('{')
	for r.in.More() {
		token, err := r.in.Token()
		if err != nil {
			return err
		}
		name, before := token.(string), r.out.Len()
		if len(seen) > 0 {
			r.out.WriteByte(',')
		}
		r.text(name)
		r.out.WriteByte(':')
		if err := r.value(); err != nil {
			return err
		}
		if seen[name] {
			r.changed = true
			r.out.Truncate(before)
		}
		seen[name] = true
	}
	r.out.WriteByte('}')
	_, err := r.in.Token()
	return err
}

// text writes a string. The decoder has replaced invalid characters by U+FFFD.
func (r *rewriter) text(s string) {
	if strings.ContainsAny(s, "\x00\x01\uFFFD") {
		r.changed = true
	}
	quoted, _ := json.Marshal(escape(s)) // strings always marshal
	r.out.Write(quoted)
}

// number writes a number, as a float64 when JSONB does not preserve its text. A number out of range has no value for
// package field.
func (r *rewriter) number(token string) {
	if keepsNumber(token) {
		r.out.WriteString(token)
		return
	}
	r.changed = true
	f, err := strconv.ParseFloat(token, 64)
	if err != nil {
		r.out.WriteString("null")
		return
	}
	r.out.Write(strconv.AppendFloat(nil, f+0, 'g', -1, 64)) // turns -0 into 0
}

var escapes = strings.NewReplacer("\x00", "\x01\x01", "\x01", "\x01\x02")

// escape returns a string without NUL, which PostgreSQL does not store. The order of strings is preserved.
func escape(s string) string {
	if !strings.ContainsAny(s, "\x00\x01") {
		return s
	}
	return escapes.Replace(s)
}
