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

// stored is how a document lies in the database: as the JSONB that indexes are made of and people query, and byte by byte
// when JSONB would change what it says. That is so for numbers with an exponent and the negative zero, which it writes
// otherwise, members that come twice, NUL and halves of surrogate pairs, which it refuses, and bytes that are not UTF-8.
// For those the JSONB says what package field finds in the document, which is what decides in queries.
func stored(data []byte) (doc string, exact []byte) {
	if plain(data) {
		return text(data), nil
	}
	r := rewriter{in: json.NewDecoder(bytes.NewReader(data))}
	r.in.UseNumber()
	if err := r.document(); err != nil || !r.changed {
		return text(data), nil // what is not JSON is PostgreSQL's to refuse
	}
	return r.out.String(), data
}

// text is data as a string, without a copy: it is copied into the message to the server.
func text(data []byte) string { return unsafe.String(unsafe.SliceData(data), len(data)) }

// The limits within which plain looks; what is beyond is left to the rewriter. A number of this length is
// within the range of a float64.
const (
	plainNumber = 300
	plainNames  = 64
)

// plain reports quickly that JSONB keeps all that a document says. It is in doubt about some of those that it does keep.
func plain(data []byte) bool {
	if !utf8.Valid(data) {
		return false
	}
	var names [][]byte // of all open objects
	var open []int     // where those of each begin; arrays have none
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

// plainString is the length of the string that data begins with, whether it has escapes, and whether JSONB keeps it.
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

// keepsNumber reports whether JSONB writes a number as it was, and a float64 can hold about as much.
func keepsNumber(token string) bool {
	if len(token) > plainNumber || strings.ContainsAny(token, "eE") {
		return false
	}
	return token[0] != '-' || strings.Trim(token, "-0.") != ""
}

// rewriter copies a document as JSONB can hold it.
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
		return errors.New("there is more than one value")
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

// object keeps the first of members with one name, as package field does.
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

// text writes a string. The decoder made U+FFFD of what is no character.
func (r *rewriter) text(s string) {
	if strings.ContainsAny(s, "\x00\x01\uFFFD") {
		r.changed = true
	}
	quoted, _ := json.Marshal(escape(s)) // strings always marshal
	r.out.Write(quoted)
}

// number writes a number, by way of a float64 when JSONB does not keep it; what is out of range is no value to package field.
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
	r.out.Write(strconv.AppendFloat(nil, f+0, 'g', -1, 64)) // there is one zero
}

var escapes = strings.NewReplacer("\x00", "\x01\x01", "\x01", "\x01\x02")

// escape writes a string without NUL, which PostgreSQL has no place for, such that strings keep their order.
func escape(s string) string {
	if !strings.ContainsAny(s, "\x00\x01") {
		return s
	}
	return escapes.Replace(s)
}
